//! The scenario file, as types. `schema.json` beside the scenarios is made from them.
//!
//! Field documentation here is what editors show.

mod actions;
mod check;
mod load;
mod locate;
mod policy_file;
mod yaml;

use std::collections::BTreeMap;

use portcullis_wire::{Action, Mode, Rule, Verdict};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use actions::{Arrived, Call, Login, MoveClock, PlaneAction, StopTraffic, Traffic, Until};
pub use load::{Kind, LoadedScenario, kind_of, load};
pub use policy_file::{Lint, LoadedPolicies, lint, load_policies};

use crate::engine::EngineKind;

/// A scenario: a world, and what happens in it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis scenario")]
pub struct Scenario {
    /// Name in reports; letters, digits, `_` and `-`.
    pub name: String,
    /// What the scenario shows, for people.
    #[serde(default)]
    pub description: String,
    /// Tenant of the control plane.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Audiences that tokens are accepted for; the first one is what the mint writes.
    #[serde(default = "default_audiences")]
    pub audiences: Vec<String>,
    /// Clock leeway of token checks, seconds.
    #[serde(default)]
    pub leeway_s: u32,
    /// Applications. The steps run once for each of them.
    #[serde(default = "default_apps")]
    pub apps: Vec<AppKind>,
    /// Policies; each one covers the port of the application.
    pub policies: Vec<PolicySpec>,
    /// Who sends requests: the tokens, by name.
    #[serde(default)]
    pub actors: BTreeMap<String, Actor>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// An application that the scenario protects.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// A small HTTP/1.1 server that records the exact bytes that it reads.
    Rust,
    /// The nginx that is installed on the machine.
    Nginx,
}

/// A policy of the scenario. The port is the application's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Name; also the identifier in the log.
    pub name: String,
    /// Host that the policy covers: exact, or `*.suffix`. Absent: every host.
    #[serde(default)]
    pub host_match: Option<String>,
    /// What is done with a denial, until a step sets another mode.
    pub mode: Mode,
    /// What happens when no rule matches.
    pub default_action: Action,
    /// The rules, in any order.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A sender of requests: how its token is made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Claims, laid over the usual ones (iss, aud, sub, jti, iat, exp); `null` removes a claim.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// Header members, laid over the usual ones (alg, typ, kid); `null` removes a member.
    #[serde(default)]
    pub header: Map<String, Value>,
    /// `exp` relative to the moment of minting, seconds; negative: expired.
    #[serde(default)]
    pub expires_in_s: Option<i64>,
    /// What is wrong with the token.
    #[serde(default)]
    pub defect: Option<Defect>,
    /// Key that signs; absent: the control plane's active one.
    #[serde(default)]
    pub kid: Option<String>,
    /// The token itself, instead of a minted one.
    #[serde(default)]
    pub literal: Option<String>,
}

/// A way to break a minted token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// `alg: none` with an empty signature.
    AlgNone,
    /// `alg: none` in the header, a real signature behind it.
    AlgNoneSigned,
    /// One bit of the signature differs.
    FlipSignatureBit,
    /// The payload differs from what was signed.
    FlipPayload,
    /// HMAC with the public key as the secret.
    Hs256PublicKey,
    /// Signed by a key that nobody published, under a known `kid`.
    ForeignKey,
    /// A `kid` that nobody published.
    UnknownKid,
    /// No signature part at all.
    NoSignature,
    /// An empty signature under the right algorithm.
    EmptySignature,
    /// `=` padding at the signature's end.
    Padded,
}

/// One step. It does one thing: `request`, `set_mode`, `transparent`, `agent`, `call`, `login`, `enrol_mfa`, `step_up`,
/// `clock`, `plane`, `start_traffic`, `stop_traffic` or `arrived`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name in reports.
    pub name: String,
    /// Engines that run the step; absent: all of them.
    #[serde(default)]
    pub engines: Option<Vec<EngineKind>>,
    /// Sends this request, `repeat` times, one after the other.
    #[serde(default)]
    pub request: Option<Request>,
    /// Puts every policy of the scenario in this mode and waits until the engine has it.
    #[serde(default)]
    pub set_mode: Option<Mode>,
    /// Sends these requests twice, before the engine is attached and now, and compares every byte that client and
    /// application saw. Only the value of a `Date` field may differ.
    #[serde(default)]
    pub transparent: Option<Vec<Request>>,
    /// What the proxy engine is held to in a `transparent` step: it writes heads anew, so it cannot keep every byte.
    #[serde(default)]
    pub on_proxy: Option<OnProxy>,
    /// Ends or starts the process that installed the kernel programs. Only the kernel engine has one.
    #[serde(default)]
    pub agent: Option<AgentAction>,
    /// Calls the control plane.
    #[serde(default)]
    pub call: Option<Call>,
    /// Logs a user in.
    #[serde(default)]
    pub login: Option<Login>,
    /// Enrols an authenticator app for this actor, who is logged in, and confirms it with a code.
    #[serde(default)]
    pub enrol_mfa: Option<String>,
    /// This actor shows a code of the app, and gets a token that says so.
    #[serde(default)]
    pub step_up: Option<String>,
    /// The code of `step_up` is a wrong one.
    #[serde(default)]
    pub wrong_code: bool,
    /// Moves the clock of control plane and engine.
    #[serde(default)]
    pub clock: Option<MoveClock>,
    /// Takes the control plane away from the engine, or gives it back.
    #[serde(default)]
    pub plane: Option<PlaneAction>,
    /// Starts requests in the background.
    #[serde(default)]
    pub start_traffic: Option<Traffic>,
    /// Stops them.
    #[serde(default)]
    pub stop_traffic: Option<StopTraffic>,
    /// Waits for records of the steps before.
    #[serde(default)]
    pub arrived: Option<Arrived>,
    /// Repeats `request` until its status is the expected one.
    #[serde(default)]
    pub until: Option<Until>,
    /// The connection of this name, kept open from step to step; only the first step with the name opens it. Absent: the
    /// step has connections of its own.
    #[serde(default)]
    pub on: Option<String>,
    /// How many times.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub repeat: u32,
    /// Whether each request has a connection of its own.
    #[serde(default)]
    pub connection: Connection,
    /// What must hold of each response, and of the whole step.
    #[serde(default)]
    pub expect: Expect,
}

/// What stays the same through a proxy.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum OnProxy {
    /// What messages mean: methods, targets, statuses, bodies, and fields in any order, but for those of one connection
    /// (`Connection`, `Keep-Alive`) and those that say that a proxy was there (`Via`, `X-Forwarded-For`,
    /// `X-Forwarded-Proto`, `X-AuthFI-*`).
    Meaning,
}

/// What is done to the agent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum AgentAction {
    /// SIGKILL: it has no chance to clean up.
    Kill,
    /// Starts a new one, which takes over what the old one left.
    Start,
}

/// Whether requests share a connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// A new connection for each request.
    #[default]
    New,
    /// One connection for as long as the server keeps it open.
    Reuse,
}

/// One request.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Method.
    #[serde(default = "default_method")]
    pub method: String,
    /// Request target.
    #[serde(default = "default_path")]
    pub path: String,
    /// `Host` field.
    #[serde(default = "default_host")]
    pub host: String,
    /// The actor whose token is sent; absent: no `Authorization` field.
    #[serde(default, rename = "as")]
    pub actor: Option<String>,
    /// More header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body; sent with a `Content-Length`.
    #[serde(default)]
    pub body: Option<String>,
    /// The whole text as it goes on the wire, instead of the other members; `{{name}}` stands for the token of an
    /// actor. It may hold several requests: see `statuses`.
    #[serde(default)]
    pub raw: Option<String>,
    /// Sends the request in pieces of this many bytes, each in a segment of its own.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub segment_bytes: Option<u32>,
}

/// What must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Status of every response.
    #[serde(default)]
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// Statuses of the responses that each `raw` text gets, in order: the text may hold several requests.
    #[serde(default)]
    pub statuses: Option<Vec<u16>>,
    /// The server closes the connection behind the last response, and sends nothing in between.
    #[serde(default)]
    pub closed: Option<bool>,
    /// Header fields of every response: each one must be there and contain the text.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Text that every body contains.
    #[serde(default)]
    pub body_contains: Option<String>,
    /// Values of the control plane's answer: JSON Pointer to value.
    #[serde(default)]
    pub json: BTreeMap<String, Value>,
    /// Requests that the application counted during the step.
    #[serde(default)]
    pub app_requests: Option<u64>,
    /// Bytes that the application read during the step.
    #[serde(default)]
    pub app_bytes: Option<u64>,
    /// Texts that stand in what the application read during the step, in any case. Our own server only.
    #[serde(default)]
    pub app_saw: Vec<String>,
    /// Texts that do not stand in it, in no case.
    #[serde(default)]
    pub app_never_saw: Vec<String>,
    /// Decisions in the log of the step. Given any, every record of the step must be described: each record counts
    /// for the first entry that it fits.
    #[serde(default)]
    pub log: Vec<LogExpect>,
}

/// Records of the step's log that must be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogExpect {
    /// `allow`, `deny` or `would_deny`.
    #[schemars(with = "VerdictSchema")]
    pub decision: Verdict,
    /// Reason slug, as in `bpf/include/reason.h`; absent: any.
    #[serde(default)]
    pub reason: Option<String>,
    /// Rule identifier; absent: any.
    #[serde(default)]
    pub rule: Option<String>,
    /// Policy name; absent: any.
    #[serde(default)]
    pub policy: Option<String>,
    /// How many; absent: one for each response that the step expects.
    #[serde(default)]
    pub count: Option<u64>,
}

/// `Verdict` as the schema shows it: the wire type belongs to the log, not to files that people write.
#[derive(JsonSchema)]
#[schemars(rename = "Verdict", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum VerdictSchema {
    Allow,
    Deny,
    WouldDeny,
}

/// The JSON Schema of scenario files, as text.
#[must_use]
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Scenario);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn default_tenant() -> String {
    "acme".to_owned()
}

fn default_audiences() -> Vec<String> {
    vec!["api://acme".to_owned()]
}

fn default_apps() -> Vec<AppKind> {
    vec![AppKind::Rust]
}

fn default_method() -> String {
    "GET".to_owned()
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_host() -> String {
    "app.test".to_owned()
}

fn one() -> u32 {
    1
}
