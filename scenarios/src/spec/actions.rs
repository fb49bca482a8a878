//! What a step can do besides sending requests: calls to the control plane, logins, second factors, time, outages,
//! traffic in the background.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Request;

/// A request to the control plane. In `path`, `bearer` and the texts of `body`, `{{name}}` stands for `tenant`, for a
/// value that a step before saved, or for the token of an actor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Method.
    pub method: String,
    /// Path, and query if any.
    pub path: String,
    /// JSON body.
    #[serde(default)]
    pub body: Option<Value>,
    /// Bearer token; absent: the tenant's API key is sent.
    #[serde(default)]
    pub bearer: Option<String>,
    /// Values of the answer to keep: name to JSON Pointer (RFC 6901).
    #[serde(default)]
    pub save: BTreeMap<String, String>,
    /// Values of the answer that the report shows: label to JSON Pointer.
    #[serde(default)]
    pub show: BTreeMap<String, String>,
    /// Waits until the engine enforces what the control plane has after it.
    #[serde(default)]
    pub settle: bool,
}

/// A login at the control plane; the access token becomes that of the actor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The actor, who need not be listed under `actors`.
    #[serde(rename = "as")]
    pub actor: String,
    /// Address; `{{name}}` stands for a saved value.
    pub email: String,
    /// Password.
    pub password: String,
    /// Whether a code of the actor's authenticator is sent too.
    #[serde(default)]
    pub code: bool,
}

/// Moves the clock of the control plane and of the engine.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveClock {
    /// By this much, seconds.
    #[schemars(range(min = 1))]
    pub advance_s: u32,
}

/// Whether the engine can reach the control plane. The scenario's own calls always can.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PlaneAction {
    /// Connections of the engine to it are cut, and new ones are reset.
    Down,
    /// It can be reached again.
    Up,
}

/// Requests in the background, on one connection, until a step stops them. Each one must get the status.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Name, for the step that stops it.
    pub name: String,
    /// What is sent, again and again.
    pub request: Request,
    /// Status of every response.
    #[schemars(range(min = 100, max = 599))]
    pub status: u16,
    /// A new token is minted for the actor after this many requests, with the key that signs then; absent: never.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub remint_every: Option<u32>,
}

/// The end of traffic in the background.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTraffic {
    /// Its name.
    pub name: String,
    /// Waits until it has had this many responses.
    #[schemars(range(min = 1))]
    pub requests_min: u64,
}

/// The request is repeated until it gets the status that the step expects; the report shows how long that took since the
/// last `call` began. What else the step expects is about that last response.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// Status of the responses before; another one fails the step.
    #[schemars(range(min = 100, max = 599))]
    pub before: u16,
    /// Longest time, milliseconds.
    #[schemars(range(min = 1))]
    pub within_ms: u64,
}

/// Waits until the access log holds what the step expects, of all requests since a step before; nothing may be missing
/// and nothing be there twice.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arrived {
    /// Name of the first step whose records count.
    pub since: String,
    /// Longest time, milliseconds.
    #[schemars(range(min = 1))]
    pub within_ms: u64,
}
