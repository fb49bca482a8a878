//! The runner's side of the control plane: an HTTP client for its interface.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use portcullis_wire::{AccessLog, Bundle, Policy};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Answer, Connection};
use crate::spec::{Actor, Scenario};

/// Access to one tenant of a control plane.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    addr: SocketAddr,
    tenant: String,
    api_key: String,
}

/// A registered agent.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AgentCredentials {
    /// Identifier.
    pub agent_id: String,
    /// Secret; shown once.
    pub agent_secret: String,
}

/// A page of the log.
#[derive(Debug, Deserialize)]
pub(crate) struct LogPage {
    /// Records, oldest first.
    pub logs: Vec<AccessLog>,
    /// Where the next page starts.
    pub next: u64,
}

/// Reads the whole access log of a control plane, with an API key of the tenant.
pub async fn access_log(addr: SocketAddr, tenant: &str, api_key: &str) -> Result<Vec<AccessLog>> {
    Ok(Plane::new(addr, tenant, api_key).logs(0).await?.logs)
}

// === impl Plane ===

impl Plane {
    /// Access with an API key.
    pub(crate) fn new(addr: SocketAddr, tenant: &str, api_key: &str) -> Plane {
        Plane { addr, tenant: tenant.to_owned(), api_key: api_key.to_owned() }
    }

    /// The same tenant by another address.
    pub(crate) fn at(&self, addr: SocketAddr) -> Plane {
        Plane { addr, ..self.clone() }
    }

    /// Registers an agent.
    pub(crate) async fn register(&self) -> Result<AgentCredentials> {
        let path = format!("/manage/v1/{}/access/agents/register", self.tenant);
        let body =
            json!({ "hostname": "scenario", "agent_version": env!("CARGO_PKG_VERSION"), "os": "linux" });
        self.call("POST", &path, Some(&body)).await
    }

    /// Creates the policy, or replaces the one with its identifier.
    pub(crate) async fn put_policy(&self, policy: &Policy, exists: bool) -> Result<()> {
        let body = serde_json::to_value(policy).context("writing a policy as JSON")?;
        let base = format!("/manage/v1/{}/access/policies", self.tenant);
        if exists {
            self.call::<Value>("PUT", &format!("{base}/{}", policy.id), Some(&body)).await?;
        } else {
            self.call::<Value>("POST", &base, Some(&body)).await?;
        }
        Ok(())
    }

    /// Version of the bundle that the control plane serves now.
    pub(crate) async fn version(&self) -> Result<u64> {
        let path = format!("/manage/v1/{}/access/agents", self.tenant);
        let listing: Value = self.call("GET", &path, None).await?;
        listing["config_version"].as_u64().context("the agents' listing has no config_version")
    }

    /// Mints the actor's token.
    pub(crate) async fn mint(&self, actor: &Actor) -> Result<String> {
        let Actor { claims, header, expires_in_s, defect, kid, literal } = actor;
        if let Some(literal) = literal {
            return Ok(literal.clone());
        }
        let mut order = json!({ "claims": claims, "header": header });
        for (name, value) in
            [("expires_in_s", json!(expires_in_s)), ("defect", json!(defect)), ("kid", json!(kid))]
        {
            if !value.is_null() {
                order[name] = value;
            }
        }
        let minted: Value =
            self.call("POST", &format!("/v1/{}/test/mint", self.tenant), Some(&order)).await?;
        minted["token"].as_str().map(str::to_owned).context("the mint's answer has no token")
    }

    /// All tokens of a scenario.
    pub(crate) async fn mint_all(&self, scenario: &Scenario) -> Result<BTreeMap<String, String>> {
        let mut tokens = BTreeMap::new();
        for (name, actor) in &scenario.actors {
            let token =
                self.mint(actor).await.with_context(|| format!("minting the token of actor `{name}`"))?;
            tokens.insert(name.clone(), token);
        }
        Ok(tokens)
    }

    /// The log from record `after` on, all of it.
    pub(crate) async fn logs(&self, after: u64) -> Result<LogPage> {
        const PAGE: usize = 10_000;
        let mut all = LogPage { logs: Vec::new(), next: after };
        loop {
            let path = format!("/manage/v1/{}/access/logs?after={}&limit={PAGE}", self.tenant, all.next);
            let mut page: LogPage = self.call("GET", &path, None).await?;
            let last = page.logs.len() < PAGE;
            all.logs.append(&mut page.logs);
            all.next = page.next;
            if last {
                return Ok(all);
            }
        }
    }

    /// Number that the next record will get.
    pub(crate) async fn log_end(&self) -> Result<u64> {
        let path = format!("/manage/v1/{}/access/logs?after={}&limit=1", self.tenant, u64::MAX);
        let page: LogPage = self.call("GET", &path, None).await?;
        Ok(page.next)
    }

    /// Each agent's numbered records: how many never came, and how many the agent says it lost.
    pub(crate) async fn streams(&self) -> Result<Vec<(String, u64, u64)>> {
        let path = format!("/manage/v1/{}/access/logs/streams", self.tenant);
        let listing: Value = self.call("GET", &path, None).await?;
        let rows = listing["streams"].as_array().context("the listing has no streams")?;
        let row = |row: &Value| {
            Some((row["agent_id"].as_str()?.to_owned(), row["missing"].as_u64()?, row["dropped"].as_u64()?))
        };
        rows.iter().map(|found| row(found).context("a stream without its numbers")).collect()
    }

    /// The bundle, as the agent gets it.
    pub(crate) async fn bundle(&self, agent: &AgentCredentials) -> Result<Bundle> {
        let path = format!("/manage/v1/{}/access/agents/{}/config", self.tenant, agent.agent_id);
        self.send("GET", &path, &format!("Authorization: Bearer {}", agent.agent_secret), None).await
    }

    /// Reports decisions as the agent.
    pub(crate) async fn report(&self, agent: &AgentCredentials, logs: &[AccessLog]) -> Result<()> {
        let path = format!("/manage/v1/{}/access/logs", self.tenant);
        let field = format!("Authorization: Bearer {}", agent.agent_secret);
        self.send::<Value>("POST", &path, &field, Some(&json!({ "logs": logs }))).await?;
        Ok(())
    }

    /// What time it is there, Unix seconds.
    pub(crate) async fn now_s(&self) -> Result<u64> {
        let path = format!("/manage/v1/{}/test/clock", self.tenant);
        let clock: Value = self.call("GET", &path, None).await?;
        clock["now_s"].as_u64().context("the clock has no now_s")
    }

    /// Moves its clock.
    pub(crate) async fn advance(&self, seconds: u32) -> Result<()> {
        let path = format!("/manage/v1/{}/test/clock", self.tenant);
        self.call::<Value>("POST", &path, Some(&json!({ "advance_s": seconds }))).await?;
        Ok(())
    }

    /// Tells, as the agent, which version it enforces.
    pub(crate) async fn heartbeat(&self, agent: &AgentCredentials, version: u64) -> Result<()> {
        let path = format!("/manage/v1/{}/access/agents/{}/heartbeat", self.tenant, agent.agent_id);
        let field = format!("Authorization: Bearer {}", agent.agent_secret);
        self.send::<Value>("POST", &path, &field, Some(&json!({ "config_version": version }))).await?;
        Ok(())
    }

    /// Any request, with this token or the API key, and its answer whatever it is.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let key = || format!("X-API-Key: {}", self.api_key);
        let authority = bearer.map_or_else(key, |token| format!("Authorization: Bearer {token}"));
        self.exchange(method, path, &authority, body).await
    }

    /// Base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The tenant's name.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        self.send(method, path, &format!("X-API-Key: {}", self.api_key), body).await
    }

    async fn send<T: for<'de> Deserialize<'de>>(
        &self,
        method: &str,
        path: &str,
        authority: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        let Answer { status, body, .. } = self.exchange(method, path, authority, body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: control plane answered {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{method} {path}: reading the answer"))
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        authority: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{authority}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let mut connection = Connection::open(self.addr).await.context("connecting to the control plane")?;
        let answer = connection.exchange(request.as_bytes(), false).await;
        answer.with_context(|| format!("{method} {path}"))
    }
}
