//! How long off-boarding takes: from the SCIM PATCH that deactivates a user to the first request that the kernel denies,
//! on a connection that is open all the time, with a token that is in the cache and good for minutes.
//!
//! Client, directory, control plane, agent and application are on one machine and share its processors.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::engine::EngineKind;
use crate::http::Connection;
use crate::spec::{AppKind, Scenario};
use crate::world::{Commands, World, WorldError};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Measure {
    /// How many users.
    pub runs: u32,
    /// Longest time for one.
    pub deadline: Duration,
    /// Our own processes, and how the agent learns of changes.
    pub commands: Commands,
}

const PASSWORD: &str = "correct horse battery";
/// Requests of each user before: the first is verified, the others come from the cache.
const WARM: usize = 5;
/// Between two requests that wait for the denial.
const PAUSE: Duration = Duration::from_millis(1);

/// Measures; one time for each user, in order.
///
/// # Errors
/// When anything does not come out as it must: a good request denied, a denial that does not come in time, or one for
/// another reason than the revocation.
pub async fn measure(measure: &Measure) -> Result<Vec<Duration>> {
    let Measure { runs, deadline, commands } = measure;
    EngineKind::Kernel.probe().map_err(|reason| anyhow!("{}", reason.0))?;
    let scenario: Scenario = serde_json::from_value(json!({
        "name": "offboarding",
        "policies": [{
            "name": "files", "mode": "enforce", "default_action": "deny",
            "rules": [{ "id": "read", "method": "GET", "path_pattern": "/files/*", "auth": "required" }],
        }],
        "steps": [],
    }))
    .context("making the policy")?;
    let world = World::start(&scenario, EngineKind::Kernel, AppKind::Rust, commands).await;
    let mut world = world.map_err(|error| match error {
        WorldError::Missing(what) => anyhow!("{what}"),
        WorldError::Failed(error) => error,
    })?;
    let measured = all(&mut world, &scenario, *runs, *deadline, commands).await;
    let stopped = world.stop().await;
    measured.and_then(|times| stopped.map(|()| times))
}

async fn all(
    world: &mut World,
    scenario: &Scenario,
    runs: u32,
    deadline: Duration,
    commands: &Commands,
) -> Result<Vec<Duration>> {
    world.protect(scenario, EngineKind::Kernel, commands).await?;
    let path = format!("/manage/v1/{}/scim/tokens", world.plane.tenant());
    let token = ask(world, "POST", &path, None, &json!({ "source": "directory" })).await?;
    let scim = token["token"].as_str().context("no SCIM token")?.to_owned();
    let mut times = Vec::new();
    for run in 0..runs {
        // Spread over the agent's interval, as changes in the field are.
        let part = (f64::from(run) * 0.618_034).fract();
        let wait = if commands.sync.push { Duration::ZERO } else { commands.sync.poll.mul_f64(part) };
        times.push(one(world, &scim, run, wait, deadline).await.with_context(|| format!("user {run}"))?);
    }
    Ok(times)
}

async fn one(world: &World, scim: &str, run: u32, wait: Duration, deadline: Duration) -> Result<Duration> {
    let tenant = world.plane.tenant();
    let email = format!("user-{run}@acme.example");
    let users = format!("/scim/v2/{tenant}/Users");
    let body = json!({ "userName": email, "active": true, "password": PASSWORD });
    let user = ask(world, "POST", &users, Some(scim), &body).await?;
    let id = user["id"].as_str().context("no user id")?;
    let body = json!({ "email": email, "password": PASSWORD });
    let login = ask(world, "POST", &format!("/v1/{tenant}/auth/login"), None, &body).await?;
    let token = login["access_token"].as_str().context("no token")?;

    let to = world.engine.as_ref().context("no engine is started")?.addr();
    let mut connection = Connection::open(to).await.context("connecting")?;
    let text = format!("GET /files/a HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    for _ in 0..WARM {
        let answer = connection.exchange(text.as_bytes(), false).await?;
        ensure!(answer.status == 200 && answer.reusable, "a good request got {}", answer.status);
    }
    tokio::time::sleep(wait).await;

    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{ "op": "replace", "path": "active", "value": false }],
    });
    let patch_to = format!("{users}/{id}");
    let begin = Instant::now();
    let patch = ask(world, "PATCH", &patch_to, Some(scim), &body);
    // Requests go on while the PATCH is under way, as they would.
    let denied = async {
        loop {
            let answer = connection.exchange(text.as_bytes(), false).await?;
            let took = begin.elapsed();
            if answer.status != 200 {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                ensure!(answer.status == 401 && body.contains("token_revoked"), "{} {body}", answer.status);
                return Ok(took);
            }
            ensure!(took < deadline, "not denied within {deadline:?}");
            tokio::time::sleep(PAUSE).await;
        }
    };
    let (patched, denied) = tokio::join!(patch, denied);
    patched?;
    denied
}

async fn ask(world: &World, method: &str, path: &str, bearer: Option<&str>, body: &Value) -> Result<Value> {
    let answer = world.plane.raw(method, path, bearer, Some(body)).await?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!((200..300).contains(&answer.status), "{method} {path} got {}: {text}", answer.status);
    serde_json::from_slice(&answer.body).with_context(|| format!("{method} {path}: reading the answer"))
}
