//! Steps that change the world around the requests: calls to the control plane, logins, factors, time, outages.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http::Answer;
use crate::report::StepResult;
use crate::spec::{Call, Expect, Login, MoveClock, PlaneAction};
use crate::totp::{Authenticator, secret_of_uri};
use crate::world::World;

/// Calls the control plane, and compares its answer.
pub(super) async fn call(
    name: &str,
    call: &Call,
    expect: &Expect,
    world: &mut World,
    result: &mut StepResult,
) -> Result<()> {
    let Call { method, path, body, bearer, save, show, settle } = call;
    let path = world.filled(path);
    result.action = format!("control plane: {method} {path}");
    let body = body.as_ref().map(|body| filled(body, world));
    let bearer = bearer.as_ref().map(|bearer| world.filled(bearer));
    world.called = Some((name.to_owned(), Instant::now()));
    let answer = world.plane.raw(method, &path, bearer.as_deref(), body.as_ref()).await?;
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    judge(&answer, &value, expect, &mut result.reasons);
    for (name, pointer) in save {
        let found = value.pointer(pointer).with_context(|| format!("the answer has no `{pointer}`"))?;
        world.values.insert(name.clone(), plain(found));
    }
    for (label, pointer) in show {
        let found = value.pointer(pointer).with_context(|| format!("the answer has no `{pointer}`"))?;
        result.notes.push(format!("{label}: {}", plain(found)));
    }
    if *settle {
        world.settle().await?;
    }
    Ok(())
}

/// Logs in; the token becomes the actor's.
pub(super) async fn login(
    login: &Login,
    expect: &Expect,
    world: &mut World,
    result: &mut StepResult,
) -> Result<()> {
    let Login { actor, email, password, code } = login;
    result.action = format!("{actor} logs in{}", if *code { " with a code" } else { "" });
    let mut body = json!({ "email": world.filled(email), "password": world.filled(password) });
    if *code {
        body["mfa_code"] = json!(code_of(actor, world).await?);
    }
    let (answer, value) = post(world, "auth/login", None, &body).await?;
    judge(&answer, &value, expect, &mut result.reasons);
    take_token(actor, &value, world);
    Ok(())
}

/// Enrols an authenticator app for the actor, who is logged in, and confirms it with its first code.
pub(super) async fn enrol(actor: &str, world: &mut World, result: &mut StepResult) -> Result<()> {
    result.action = format!("{actor} enrols an authenticator app");
    let token = token_of(actor, world)?;
    let (answer, value) = post(world, "mfa/enroll", Some(&token), &json!({})).await?;
    let uri = value["uri"].as_str().filter(|_| answer.status == 200);
    let uri = uri.with_context(|| format!("mfa/enroll answered {}: {value}", answer.status))?;
    let app = Authenticator::new(secret_of_uri(uri)?)?;
    result.notes.push(format!("authenticator: {}", app.whose()));
    world.apps.insert(actor.to_owned(), app);
    let code = code_of(actor, world).await?;
    let (answer, value) = post(world, "mfa/verify", Some(&token), &json!({ "code": code })).await?;
    ensure!(value["verified"] == true, "mfa/verify answered {}: {value}", answer.status);
    Ok(())
}

/// Shows a code; the token that comes back becomes the actor's.
pub(super) async fn step_up(
    actor: &str,
    wrong: bool,
    expect: &Expect,
    world: &mut World,
    result: &mut StepResult,
) -> Result<()> {
    result.action = format!("{actor} steps up with a {} code", if wrong { "wrong" } else { "fresh" });
    let token = token_of(actor, world)?;
    let code = if wrong {
        let now_s = world.plane.now_s().await?;
        world.apps.get(actor).with_context(|| no_app(actor))?.wrong_code(now_s)
    } else {
        code_of(actor, world).await?
    };
    let (answer, value) = post(world, "auth/step-up", Some(&token), &json!({ "mfa_code": code })).await?;
    judge(&answer, &value, expect, &mut result.reasons);
    take_token(actor, &value, world);
    Ok(())
}

/// Moves the clock.
pub(super) async fn clock(action: MoveClock, world: &mut World, result: &mut StepResult) -> Result<()> {
    let MoveClock { advance_s } = action;
    result.action = format!("clock advanced by {advance_s} s");
    world.ahead_s += i64::from(advance_s);
    // The engine's first: a token's `iat` must not lie in its future.
    let engine = world.engine.as_mut().context("no engine is started")?;
    engine.set_clock(world.ahead_s).await?;
    world.plane.advance(advance_s).await
}

/// Cuts or restores the engine's way to the control plane.
pub(super) fn plane(action: PlaneAction, world: &World, result: &mut StepResult) {
    let up = action == PlaneAction::Up;
    result.action = format!("the control plane is {}", if up { "back" } else { "gone" });
    world.relay.set_open(up);
}

async fn post(world: &World, what: &str, bearer: Option<&str>, body: &Value) -> Result<(Answer, Value)> {
    let path = format!("/v1/{}/{what}", world.plane.tenant());
    let answer = world.plane.raw("POST", &path, bearer, Some(body)).await?;
    let value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Ok((answer, value))
}

fn judge(answer: &Answer, value: &Value, expect: &Expect, out: &mut Vec<String>) {
    let text = String::from_utf8_lossy(&answer.body);
    let shown: String = text.chars().take(200).collect();
    match expect.status {
        Some(wanted) if wanted != answer.status => {
            out.push(format!("the control plane answered {}, expected {wanted}: {shown}", answer.status));
        }
        None if !(200..300).contains(&answer.status) => {
            out.push(format!("the control plane answered {}: {shown}", answer.status));
        }
        Some(_) | None => {}
    }
    if let Some(wanted) = expect.body_contains.as_ref().filter(|wanted| !text.contains(wanted.as_str())) {
        out.push(format!("the control plane's answer lacks `{wanted}`: {shown}"));
    }
    for (pointer, wanted) in &expect.json {
        match value.pointer(pointer) {
            Some(found) if found == wanted => {}
            Some(found) => out.push(format!("`{pointer}` is {found}, expected {wanted}")),
            None => out.push(format!("there is no `{pointer}`, expected {wanted}: {shown}")),
        }
    }
}

async fn code_of(actor: &str, world: &mut World) -> Result<String> {
    let now_s = world.plane.now_s().await?;
    world.apps.get_mut(actor).with_context(|| no_app(actor))?.code(now_s)
}

fn no_app(actor: &str) -> String {
    format!("`{actor}` has no authenticator app; put an `enrol_mfa` step before this one")
}

fn token_of(actor: &str, world: &World) -> Result<String> {
    match world.tokens.get(actor) {
        Some(token) => Ok(token.clone()),
        None => bail!("`{actor}` is not logged in"),
    }
}

fn take_token(actor: &str, value: &Value, world: &mut World) {
    if let Some(token) = value["access_token"].as_str() {
        world.tokens.insert(actor.to_owned(), token.to_owned());
    }
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn filled(value: &Value, world: &World) -> Value {
    match value {
        Value::String(text) => Value::String(world.filled(text)),
        Value::Array(items) => items.iter().map(|item| filled(item, world)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), filled(value, world))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
