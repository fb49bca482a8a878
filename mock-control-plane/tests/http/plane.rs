//! A control plane with a clock of its own, and a client that speaks HTTP to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis_mock_control_plane::{Clock, Config, ControlPlane, Handle, TenantConfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use ureq::http::{HeaderMap, Request, Response};
use ureq::{Agent, Body};

use crate::conform;

pub const API_KEY: &str = "sk_test";
pub const PASSWORD: &str = "correct horse battery";
/// When every test begins, seconds since the epoch.
pub const START_S: u64 = 1_800_000_000;

/// A running control plane with the tenant `acme`.
pub struct Plane {
    runtime: Runtime,
    handle: Option<Handle>,
    url: String,
    now_s: Arc<AtomicU64>,
    client: Agent,
    /// Whether answers have to be as the interface is described.
    conforms: AtomicBool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Plane {
    pub fn start() -> Plane {
        Plane::with(|_| {})
    }

    /// A plane with the tenant `other` too.
    pub fn with_other() -> Plane {
        Plane::with(|config| config.tenants.push(tenant("other", "sk_other")))
    }

    /// A plane whose configuration `change` has changed.
    pub fn with(change: impl FnOnce(&mut Config)) -> Plane {
        let now_s = Arc::new(AtomicU64::new(START_S));
        let mut config = Config::for_tests(tenant("acme", API_KEY));
        config.clock = Clock::manual(Arc::clone(&now_s));
        change(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let handle = runtime.block_on(ControlPlane::start(config)).unwrap();
        let client = Agent::config_builder().http_status_as_error(false).build().into();
        Plane {
            url: handle.url(),
            runtime,
            handle: Some(handle),
            now_s,
            client,
            conforms: AtomicBool::new(true),
        }
    }

    /// Answers are wrong on demand from now on.
    pub fn need_not_conform(&self) {
        self.conforms.store(false, Ordering::Relaxed);
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn advance(&self, seconds: u64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn now_s(&self) -> u64 {
        self.now_s.load(Ordering::Relaxed)
    }

    pub fn shutdown(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.runtime.block_on(handle.shutdown());
        }
    }

    /// An answer whose body could not be read is an error.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response: Response<Body> = match method {
            "GET" | "DELETE" if body.is_empty() => self.client.run(request.body(()).unwrap())?,
            _ => self.client.run(request.body(body.to_vec()).unwrap())?,
        };
        let (parts, mut body) = response.into_parts();
        let bytes = body.read_to_vec()?;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
        let complaint =
            conform::complaint(method, path, answer.status, answer.header("content-type"), &answer.body);
        if self.conforms.load(Ordering::Relaxed) {
            assert_eq!(complaint, None, "{method} {path}: the answer is not as the interface is described");
        }
        Ok(answer)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    fn json(&self, method: &str, path: &str, auth: (&str, &str), body: Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[auth, ("content-type", "application/json")], text.as_bytes())
    }

    /// With the API key of `acme`; `path` from its management interface on.
    pub fn manage(&self, method: &str, path: &str, body: Value) -> Answer {
        self.json(method, &format!("/manage/v1/acme/{path}"), ("x-api-key", API_KEY), body)
    }

    /// With the API key of `acme`; `path` from `/api/v1` on.
    pub fn directory(&self, method: &str, path: &str, body: Value) -> Answer {
        self.json(method, &format!("/api/v1/{path}"), ("x-api-key", API_KEY), body)
    }

    /// With a bearer token.
    pub fn bearer(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.json(method, path, ("authorization", &format!("Bearer {token}")), body)
    }

    /// A user with a password; its identifier.
    pub fn user(&self, email: &str) -> String {
        let body = json!({ "email": email, "name": "Some One", "password": PASSWORD });
        self.directory("POST", "users", body).created()["id"].as_str().unwrap().to_owned()
    }

    pub fn login(&self, body: Value) -> Answer {
        self.json("POST", "/v1/acme/auth/login", ("x-none", "x"), body)
    }

    /// Logs in with the password; access and refresh token.
    pub fn tokens(&self, email: &str) -> (String, String) {
        let answer = self.login(json!({ "email": email, "password": PASSWORD })).ok();
        (text(&answer, "access_token"), text(&answer, "refresh_token"))
    }

    /// A new agent: its identifier and its secret.
    pub fn agent(&self) -> (String, String) {
        let answer = self.manage("POST", "access/agents/register", json!({ "hostname": "h" })).created();
        (text(&answer, "agent_id"), text(&answer, "agent_secret"))
    }

    /// The bundle that an agent gets now.
    pub fn bundle(&self, agent: &(String, String)) -> portcullis_wire::Bundle {
        let path = format!("/manage/v1/acme/access/agents/{}/config", agent.0);
        serde_json::from_value(self.bearer(&agent.1, "GET", &path, Value::Null).ok()).unwrap()
    }

    /// A token for a directory named `source`.
    pub fn scim_token(&self, source: &str, org: Option<&str>) -> String {
        let body = json!({ "source": source, "org_id": org });
        text(&self.manage("POST", "scim/tokens", body).created(), "token")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Answer {
    /// The body of a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{:#}", self.body);
        self.body
    }

    /// The body of a 201.
    #[track_caller]
    pub fn created(self) -> Value {
        assert_eq!(self.status, 201, "{:#}", self.body);
        self.body
    }

    /// Nothing, by a 204.
    #[track_caller]
    pub fn done(self) {
        assert_eq!(self.status, 204, "{:#}", self.body);
    }

    /// A problem document of that status; its detail.
    #[track_caller]
    pub fn problem(self, status: u16) -> String {
        assert_eq!(self.status, status, "{:#}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(self.body["type"].as_str().unwrap().starts_with("urn:portcullis:problem:"), "{}", self.body);
        assert!(!self.body["title"].as_str().unwrap().is_empty());
        text(&self.body, "detail")
    }

    /// A 422 whose errors are at these places.
    #[track_caller]
    pub fn invalid_at(self, pointers: &[&str]) {
        let errors = self.body["errors"].clone();
        self.problem(422);
        let found: Vec<&str> =
            errors.as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, pointers);
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A text member.
#[track_caller]
pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {value:#}")).to_owned()
}

/// Header and claims of a token; nothing is verified.
pub fn decode(token: &str) -> (Value, Value) {
    use base64::Engine as _;
    let part = |n: usize| {
        let part = token.split('.').nth(n).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap())
            .unwrap()
    };
    (part(0), part(1))
}

/// Whether agents with this bundle accept a token.
pub fn verify(
    bundle: &portcullis_wire::Bundle,
    token: &str,
    now_s: u64,
) -> Result<(), portcullis_wire::Reason> {
    let (keys, problems) = portcullis_token::KeyStore::new(&bundle.issuers);
    assert!(problems.is_empty(), "{problems:?}");
    portcullis_token::verify(token.as_bytes(), &keys, now_s).map(|_| ())
}

fn tenant(name: &str, api_key: &str) -> TenantConfig {
    TenantConfig {
        name: name.to_owned(),
        api_key: api_key.to_owned(),
        audiences: vec!["app".to_owned(), "second".to_owned()],
        leeway_s: 0,
        plan: None,
    }
}
