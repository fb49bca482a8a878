//! The audit log: attempts to reach what belongs to another organisation. The answer is 404, as if there were nothing;
//! whoever manages the tenant sees here that there was something, and who asked for it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::directory::Scope;
use crate::extract::{bearer, registrar};
use crate::problem::Foreign;
use crate::server::Shared;
use crate::store::{Changes, Sequence, Store, Stored, Unreadable};

/// A bounded sequence of entries; the oldest go first.
#[derive(Debug, Default)]
pub(crate) struct AuditLog {
    entries: Sequence<AuditEntry>,
}

/// One refused attempt.
#[derive(Clone, Debug, Deserialize, Serialize, schemars::JsonSchema)]
pub(crate) struct AuditEntry {
    /// When, seconds since the epoch.
    pub time: u64,
    /// `cross_organisation`
    pub event: String,
    /// Who asked: a user's identifier, `api-key`, or the name of a provisioning directory.
    pub actor: String,
    /// Organisation of whoever asked; absent: the tenant.
    pub org_id: Option<String>,
    /// Request method.
    pub method: String,
    /// Request path; without the query, which may hold anything.
    pub path: String,
}

/// Who asked, in which tenant.
struct Actor {
    tenant: String,
    name: String,
    scope: Scope,
}

/// Most entries kept.
const ENTRIES_MAX: usize = 10_000;
/// Longest path kept, characters.
const PATH_MAX: usize = 512;

// === impl AuditLog ===

impl AuditLog {
    /// The entries, oldest first, with their numbers.
    pub(crate) fn since(&self, number: u64) -> impl DoubleEndedIterator<Item = (u64, &AuditEntry)> {
        self.entries.since(number)
    }

    /// How many older ones are gone.
    pub(crate) fn forgotten(&self) -> u64 {
        self.entries.forgotten()
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        self.entries.drain("audit", changes);
    }

    /// The log as it was written.
    pub(crate) fn load(stored: &mut Stored, forgotten: u64) -> Result<AuditLog, Unreadable> {
        Ok(AuditLog { entries: Sequence::load("audit", stored, forgotten)? })
    }
}

/// Notes the attempts that handlers have marked.
pub(crate) async fn note(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let headers = request.headers().clone();
    let response = next.run(request).await;
    if response.extensions().get::<Foreign>().is_some() {
        let now_s = shared.clock.now_s();
        let mut store = shared.store();
        if let Some(actor) = actor(&store, &headers, &path, now_s) {
            push(&mut store, actor, &method, &path, now_s);
        }
    }
    response
}

fn push(store: &mut Store, actor: Actor, method: &Method, path: &str, now_s: u64) {
    let Actor { tenant, name, scope } = actor;
    let org_id = match scope {
        Scope::Tenant => None,
        Scope::Org(id) => Some(id),
    };
    if let Ok(tenant) = store.tenant_mut(&tenant) {
        let entry = AuditEntry {
            time: now_s,
            event: "cross_organisation".to_owned(),
            actor: name,
            org_id,
            method: method.to_string(),
            path: path.chars().take(PATH_MAX).collect(),
        };
        tenant.audit.entries.push(entry, ENTRIES_MAX);
    }
}

fn actor(store: &Store, headers: &HeaderMap, path: &str, now_s: u64) -> Option<Actor> {
    if let Some(rest) = path.strip_prefix("/scim/v2/") {
        let tenant = rest.split('/').next().unwrap_or_default();
        let token = store.tenant(tenant).ok()?.scim_tokens.by_secret(bearer(headers)?)?;
        return Some(Actor {
            tenant: tenant.to_owned(),
            name: token.source.clone(),
            scope: token.scope.clone(),
        });
    }
    let (registrar, name) = registrar(store, headers, now_s).ok()?;
    Some(Actor { tenant: registrar.tenant, name, scope: registrar.scope })
}
