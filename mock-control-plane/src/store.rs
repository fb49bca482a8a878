//! The in-memory store: tenants, and in each one its agents, policies, keys, logs and directory.
//!
//! **Invariant:** a tenant's version grows with every change that the bundle shows, and never shrinks.

use std::collections::BTreeMap;

use portcullis_token::mint::SigningKey;
use portcullis_wire::{Bundle, Issuer, Policy};
use tokio::sync::watch;

use crate::Problem;
use crate::directory::Directory;
use crate::inventory::{Endpoint, Service};
use crate::key_ring::KeyRing;
use crate::log::Log;
use crate::mfa::MfaPolicy;
use crate::revocation::Revocations;
use crate::scim::ScimTokens;
use crate::secret::SecretHash;
use crate::session::Sessions;
use crate::sync_log::SyncLog;
use crate::throttle::Throttle;
use crate::ticket::Tickets;

/// Everything.
#[derive(Default)]
pub(crate) struct Store {
    tenants: BTreeMap<String, Tenant>,
}

/// One tenant.
pub(crate) struct Tenant {
    /// Name, as in URLs.
    pub name: String,
    /// Hash of the API key.
    pub api_key: SecretHash,
    /// The tenant's issuer name.
    pub issuer: String,
    /// Accepted audiences.
    pub audiences: Vec<String>,
    /// Clock leeway, seconds.
    pub leeway_s: u32,
    /// Agents by identifier.
    pub agents: BTreeMap<String, AgentRow>,
    /// Policies by identifier.
    pub policies: BTreeMap<String, Policy>,
    /// Signing keys.
    pub keys: KeyRing,
    /// The access log.
    pub logs: Log,
    /// Version of the bundle.
    pub version: Version,
    /// Users, groups, roles, organisations.
    pub directory: Directory,
    /// Who is logged in.
    pub sessions: Sessions,
    /// Steps of logins that wait for the next one.
    pub tickets: Tickets,
    /// Tokens that are refused before they expire.
    pub revocations: Revocations,
    /// Failed logins and codes.
    pub throttle: Throttle,
    /// Who must have a second factor.
    pub mfa_policy: MfaPolicy,
    /// Credentials of directories that provision users.
    pub scim_tokens: ScimTokens,
    /// What those directories did.
    pub sync_log: SyncLog,
}

/// One registered agent.
#[derive(Clone, Debug)]
pub(crate) struct AgentRow {
    /// Identifier.
    pub id: String,
    /// What it said about itself.
    pub hostname: String,
    /// Hash of its secret.
    pub secret: SecretHash,
    /// When it registered, seconds since the epoch.
    pub registered_s: u64,
    /// Bundle version that it has confirmed to have.
    pub seen_version: u64,
    /// When it last confirmed one, or sent a heartbeat, seconds since the epoch.
    pub seen_s: u64,
    /// What it last reported about the host: services, endpoints, state of the enforcer.
    pub report: AgentReport,
}

/// What an agent last reported; each part is replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentReport {
    /// State of the enforcer.
    pub status: Option<String>,
    /// Discovered services.
    pub services: Vec<Service>,
    /// Endpoints learnt from traffic.
    pub endpoints: Vec<Endpoint>,
}

/// The version of a bundle. Waiting agents are told of each change.
#[derive(Debug)]
pub(crate) struct Version(watch::Sender<u64>);

// === impl Store ===

impl Store {
    /// Adds a tenant; `false` if its name or its API key is taken.
    pub(crate) fn insert(&mut self, name: &str, tenant: Tenant) -> bool {
        let same_key = self.tenants.values().any(|other| other.api_key == tenant.api_key);
        if same_key || self.tenants.contains_key(name) {
            return false;
        }
        self.tenants.insert(name.to_owned(), tenant);
        true
    }

    /// The tenant of that name.
    pub(crate) fn tenant(&self, name: &str) -> Result<&Tenant, Problem> {
        self.tenants.get(name).ok_or_else(|| no_tenant(name))
    }

    /// The tenant of that name, to change it.
    pub(crate) fn tenant_mut(&mut self, name: &str) -> Result<&mut Tenant, Problem> {
        self.tenants.get_mut(name).ok_or_else(|| no_tenant(name))
    }

    /// The tenant with that API key. All are compared: the time does not tell which one matched.
    pub(crate) fn by_api_key(&self, presented: &[u8]) -> Option<&Tenant> {
        self.tenants.values().fold(None, |found, tenant| {
            let matches = tenant.api_key.matches(presented);
            if matches { Some(tenant) } else { found }
        })
    }

    /// The tenant with that issuer name.
    pub(crate) fn by_issuer(&self, issuer: &str) -> Option<&Tenant> {
        self.tenants.values().find(|tenant| tenant.issuer == issuer)
    }
}

// === impl Tenant ===

impl Tenant {
    /// A tenant with its first key and nothing else.
    pub(crate) fn new(
        name: String,
        api_key: &str,
        issuer: String,
        audiences: Vec<String>,
        leeway_s: u32,
        key: SigningKey,
    ) -> Tenant {
        Tenant {
            api_key: SecretHash::of(api_key.as_bytes()),
            revocations: Revocations::new(issuer.clone()),
            issuer,
            audiences,
            leeway_s,
            agents: BTreeMap::new(),
            policies: BTreeMap::new(),
            keys: KeyRing::new(format!("{name}-1"), key),
            logs: Log::default(),
            version: Version::default(),
            directory: Directory::default(),
            sessions: Sessions::default(),
            tickets: Tickets::default(),
            throttle: Throttle::default(),
            mfa_policy: MfaPolicy::default(),
            scim_tokens: ScimTokens::default(),
            sync_log: SyncLog::default(),
            name,
        }
    }

    /// The agent with that secret. All agents are compared: the time does not tell which one matched.
    pub(crate) fn agent_by_secret(&self, presented: &[u8]) -> Option<&AgentRow> {
        self.agents.values().fold(None, |found, agent| {
            let matches = agent.secret.matches(presented);
            if matches { Some(agent) } else { found }
        })
    }

    /// What an agent is given.
    pub(crate) fn bundle(&self) -> Bundle {
        let issuer = Issuer {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            leeway_s: self.leeway_s,
            jwks: self.keys.jwks(),
        };
        Bundle {
            version: self.version.get(),
            issuers: vec![issuer],
            policies: self.policies.values().cloned().collect(),
            revocations: self.revocations.list(),
            candidate: None,
        }
    }

    /// Notes that an agent has, or confirmed, `version`. What waited for all agents to have it is thereby enforced.
    pub(crate) fn agent_has(&mut self, id: &str, version: u64, now: std::time::Duration) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.seen_version = agent.seen_version.max(version);
            agent.seen_s = now.as_secs();
        }
        if let Some(everywhere) = self.agents.values().map(|agent| agent.seen_version).min() {
            self.sync_log.enforced_up_to(everywhere, now);
        }
    }
}

// === impl Version ===

impl Version {
    /// The version now.
    pub(crate) fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// One more.
    pub(crate) fn bump(&mut self) {
        self.0.send_modify(|version| *version += 1);
    }

    /// Tells of every change from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl Default for Version {
    fn default() -> Version {
        Version(watch::Sender::new(1))
    }
}

fn no_tenant(name: &str) -> Problem {
    Problem::not_found(format!("no tenant `{name}`"))
}
