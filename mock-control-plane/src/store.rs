//! The store: tenants, and in each one its agents, policies, keys, logs and directory. It is in memory, and each change
//! is handed to the [`Journal`] if there is one.
//!
//! **Invariant:** a tenant's version grows with every change that the bundle shows, and never shrinks.

mod change;
mod journal;
mod sequence;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

use portcullis_token::mint::SigningKey;
use portcullis_wire::{Bundle, Candidate, Issuer, Jwk, Policy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

pub(crate) use self::change::{Changes, Stored, Unreadable};
pub(crate) use self::journal::Journal;
pub(crate) use self::sequence::Sequence;
pub(crate) use self::table::Table;
use crate::audit::AuditLog;
use crate::cloud::Cloud;
use crate::directory::Directory;
use crate::inventory::{Endpoint, Service};
use crate::key_ring::{KeyRing, RingSettings};
use crate::log::Log;
use crate::mfa::MfaPolicy;
use crate::plan::Plan;
use crate::revocation::Revocations;
use crate::scim::ScimTokens;
use crate::secret::{Kept, SecretHash, fingerprint};
use crate::session::Sessions;
use crate::sync_log::SyncLog;
use crate::throttle::Throttle;
use crate::ticket::Tickets;
use crate::{Problem, TenantConfig};

/// Key of the row of [`Tenant::candidate`].
pub(crate) const CANDIDATE: &str = "candidate";

/// Everything.
#[derive(Default)]
pub(crate) struct Store {
    tenants: BTreeMap<String, Tenant>,
    /// How far the clock was moved, seconds: one row, if it was.
    clock: Table<i64>,
    /// Tenants that may have changed since they were last written.
    touched: BTreeSet<String>,
    /// Tenants from the state file that the configuration did not name so far.
    loaded: BTreeSet<String>,
}

/// The store, locked. When it is let go what changed is handed to the journal: whole, and in the order of the changes.
pub(crate) struct StoreGuard<'a> {
    store: MutexGuard<'a, Store>,
    journal: Option<&'a Journal>,
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
    pub agents: Table<AgentRow>,
    /// Policies by identifier.
    pub policies: Table<Policy>,
    /// Policies on trial, one set at most, under [`CANDIDATE`].
    pub candidate: Table<Candidate>,
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
    /// Who reached for what belongs to another organisation.
    pub audit: AuditLog,
    /// Roles at cloud providers.
    pub cloud: Cloud,
    /// How long a change takes to a cloud provider, seconds.
    pub cloud_delay_s: u64,
    /// What the tenant may have.
    pub plan: Plan,
    /// Signs bundles, and nothing else.
    pub bundle_key: SigningKey,
    /// The settings as they were last written.
    written: Option<String>,
}

/// What of a tenant is not in tables.
#[derive(Deserialize, Serialize)]
struct Settings {
    name: String,
    api_key: SecretHash,
    issuer: String,
    audiences: Vec<String>,
    leeway_s: u32,
    version: u64,
    mfa_policy: MfaPolicy,
    plan: Plan,
    keys: RingSettings,
    logs_forgotten: u64,
    sync_forgotten: u64,
    audit_forgotten: u64,
    cloud_delay_s: u64,
    #[serde(with = "Kept")]
    bundle_key: SigningKey,
}

/// The same, to be written.
#[derive(Serialize)]
struct SettingsRef<'a> {
    name: &'a str,
    api_key: &'a SecretHash,
    issuer: &'a str,
    audiences: &'a [String],
    leeway_s: u32,
    version: u64,
    mfa_policy: MfaPolicy,
    plan: Plan,
    keys: RingSettings,
    logs_forgotten: u64,
    sync_forgotten: u64,
    audit_forgotten: u64,
    cloud_delay_s: u64,
    #[serde(with = "Kept")]
    bundle_key: &'a SigningKey,
}

/// One registered agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
        self.touched.insert(name.to_owned());
        true
    }

    /// The store as it was written.
    pub(crate) fn load(written: BTreeMap<String, Stored>) -> Result<Store, Unreadable> {
        let mut store = Store::default();
        for (name, mut stored) in written {
            if name.is_empty() {
                store.clock = Table::load("clock", &mut stored)?;
                stored.end()?;
            } else {
                let tenant = Tenant::load(stored)?;
                store.loaded.insert(name.clone());
                store.tenants.insert(name, tenant);
            }
        }
        Ok(store)
    }

    /// How far the clock was moved, seconds, if it was.
    pub(crate) fn ahead_s(&self) -> Option<i64> {
        self.clock.get(AHEAD).copied()
    }

    /// Whether that tenant comes from the state file, and was not configured yet.
    pub(crate) fn was_loaded(&self, name: &str) -> bool {
        self.loaded.contains(name)
    }

    /// Makes a tenant of the state file what its configuration says; `false` if its API key is taken.
    pub(crate) fn configure(&mut self, config: TenantConfig, issuer: Option<String>) -> bool {
        let name = config.name.clone();
        self.loaded.remove(&name);
        let key = SecretHash::of(config.api_key.as_bytes());
        let taken = self.tenants.values().any(|other| other.name != name && other.api_key == key);
        match self.tenant_mut(&name) {
            Ok(tenant) if !taken => {
                tenant.configure(config, issuer);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Every tenant.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// The tenant of that name.
    pub(crate) fn tenant(&self, name: &str) -> Result<&Tenant, Problem> {
        self.tenants.get(name).ok_or_else(|| no_tenant(name))
    }

    /// The tenant of that name, to change it.
    pub(crate) fn tenant_mut(&mut self, name: &str) -> Result<&mut Tenant, Problem> {
        let tenant = self.tenants.get_mut(name).ok_or_else(|| no_tenant(name))?;
        self.touched.insert(name.to_owned());
        Ok(tenant)
    }

    /// Forgets records of the access log that are older than the tenants' plans keep them.
    pub(crate) fn forget_old_records(&mut self, now_s: u64) {
        for (name, tenant) in &mut self.tenants {
            if tenant.logs.forget_before(now_s.saturating_sub(tenant.plan.retention_s())) > 0 {
                self.touched.insert(name.clone());
            }
        }
    }

    /// Brings the cloud providers up to date; `down` says which tenants' providers take nothing.
    pub(crate) fn sync_clouds(&mut self, now: std::time::Duration, down: impl Fn(&str) -> bool) {
        for (name, tenant) in self.tenants.iter_mut().filter(|(_, tenant)| tenant.has_cloud()) {
            if tenant.sync_cloud(now, down(name)) {
                self.touched.insert(name.clone());
            }
        }
    }

    /// The clock was moved so far, seconds.
    pub(crate) fn clock_moved(&mut self, ahead_s: i64) {
        self.clock.insert(AHEAD.to_owned(), ahead_s);
        self.touched.insert(String::new());
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

// === impl StoreGuard ===

impl<'a> StoreGuard<'a> {
    /// The locked store, with where its changes go.
    pub(crate) fn new(store: MutexGuard<'a, Store>, journal: Option<&'a Journal>) -> StoreGuard<'a> {
        StoreGuard { store, journal }
    }
}

impl Drop for StoreGuard<'_> {
    fn drop(&mut self) {
        let Store { tenants, clock, touched, loaded: _ } = &mut *self.store;
        for name in std::mem::take(touched) {
            let mut changes = self.journal.map_or_else(Changes::forgotten, |_| Changes::recorded());
            match tenants.get_mut(&name) {
                Some(tenant) => tenant.drain(&mut changes),
                None => clock.drain("clock", &mut changes),
            }
            let rows = changes.into_rows();
            if let Some(journal) = self.journal.filter(|_| !rows.is_empty()) {
                journal.append(&name, rows);
            }
        }
    }
}

impl Deref for StoreGuard<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl DerefMut for StoreGuard<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}

// === impl Tenant ===

impl Tenant {
    /// A tenant with its first key and nothing else.
    pub(crate) fn new(
        config: TenantConfig,
        issuer: String,
        key: SigningKey,
        bundle_key: SigningKey,
        now_s: u64,
    ) -> Tenant {
        let TenantConfig { name, api_key, audiences, leeway_s, plan } = config;
        let plan = plan.unwrap_or_default();
        Tenant {
            api_key: SecretHash::of(api_key.as_bytes()),
            revocations: Revocations::default(),
            issuer,
            audiences,
            leeway_s,
            agents: Table::default(),
            policies: Table::default(),
            candidate: Table::default(),
            keys: KeyRing::new(format!("{name}-1"), key, now_s),
            logs: Log::default(),
            version: Version::default(),
            directory: Directory::default(),
            sessions: Sessions::default(),
            tickets: Tickets::default(),
            throttle: Throttle::default(),
            mfa_policy: MfaPolicy::default(),
            scim_tokens: ScimTokens::default(),
            sync_log: SyncLog::default(),
            audit: AuditLog::default(),
            cloud: Cloud::default(),
            cloud_delay_s: 0,
            plan,
            bundle_key,
            written: None,
            name,
        }
    }

    /// The tenant as it was written.
    pub(crate) fn load(mut stored: Stored) -> Result<Tenant, Unreadable> {
        let settings = stored.take_one::<Settings>(SETTINGS)?;
        let settings = settings.ok_or_else(|| Unreadable::new(SETTINGS, "", "is missing"))?;
        let Settings {
            name,
            api_key,
            issuer,
            audiences,
            leeway_s,
            version,
            mfa_policy,
            plan,
            keys,
            logs_forgotten,
            sync_forgotten,
            audit_forgotten,
            cloud_delay_s,
            bundle_key,
        } = settings;
        let tenant = Tenant {
            name,
            api_key,
            issuer,
            audiences,
            leeway_s,
            agents: Table::load("agent", &mut stored)?,
            policies: Table::load("policy", &mut stored)?,
            candidate: Table::load("candidate", &mut stored)?,
            keys: KeyRing::load(&mut stored, keys)?,
            logs: Log::load(&mut stored, logs_forgotten)?,
            version: Version(watch::Sender::new(version)),
            directory: Directory::load(&mut stored)?,
            sessions: Sessions::load(&mut stored)?,
            tickets: Tickets::load(&mut stored)?,
            revocations: Revocations::load(&mut stored)?,
            throttle: Throttle::load(&mut stored)?,
            mfa_policy,
            scim_tokens: ScimTokens::load(&mut stored)?,
            sync_log: SyncLog::load(&mut stored, sync_forgotten)?,
            audit: AuditLog::load(&mut stored, audit_forgotten)?,
            cloud: Cloud::load(&mut stored)?,
            cloud_delay_s,
            plan,
            bundle_key,
            written: None,
        };
        stored.end()?;
        Ok(tenant)
    }

    /// What the configuration says holds, whatever was written before.
    pub(crate) fn configure(&mut self, config: TenantConfig, issuer: Option<String>) {
        let TenantConfig { name: _, api_key, audiences, leeway_s, plan } = config;
        let issuer = issuer.unwrap_or_else(|| self.issuer.clone());
        let seen = (&self.issuer, &self.audiences, self.leeway_s) != (&issuer, &audiences, leeway_s);
        self.api_key = SecretHash::of(api_key.as_bytes());
        self.issuer = issuer;
        self.audiences = audiences;
        self.leeway_s = leeway_s;
        self.plan = plan.unwrap_or(self.plan);
        if seen {
            self.version.bump();
        }
    }

    /// Hands over what changed since the last time.
    fn drain(&mut self, changes: &mut Changes) {
        let Tenant {
            name,
            api_key,
            issuer,
            audiences,
            leeway_s,
            agents,
            policies,
            candidate,
            keys,
            logs,
            version,
            directory,
            sessions,
            tickets,
            revocations,
            throttle,
            mfa_policy,
            scim_tokens,
            sync_log,
            audit,
            cloud,
            cloud_delay_s,
            plan,
            bundle_key,
            written,
        } = self;
        agents.drain("agent", changes);
        policies.drain("policy", changes);
        candidate.drain("candidate", changes);
        keys.drain(changes);
        logs.drain(changes);
        directory.drain(changes);
        sessions.drain(changes);
        tickets.drain(changes);
        revocations.drain(changes);
        throttle.drain(changes);
        scim_tokens.drain(changes);
        sync_log.drain(changes);
        audit.drain(changes);
        cloud.drain(changes);
        let settings = SettingsRef {
            name,
            api_key,
            issuer,
            audiences,
            leeway_s: *leeway_s,
            version: version.get(),
            mfa_policy: *mfa_policy,
            plan: *plan,
            keys: keys.settings(),
            logs_forgotten: logs.forgotten(),
            sync_forgotten: sync_log.entries().1,
            audit_forgotten: audit.forgotten(),
            cloud_delay_s: *cloud_delay_s,
            bundle_key,
        };
        changes.note_one(SETTINGS, written, &settings);
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
            revocations: self.revocations.list(&self.issuer),
            candidate: self.candidate.get(CANDIDATE).cloned(),
        }
    }

    /// The public key that bundles are verified with.
    pub(crate) fn bundle_jwk(&self) -> Jwk {
        let thumb = self.bundle_key.public_jwk("");
        let kid = fingerprint(thumb.x.unwrap_or_default().as_bytes());
        self.bundle_key.public_jwk(&format!("bundle-{kid}"))
    }

    /// The signature over a bundle for one agent: a JWS with detached content, RFC 7515 appendix F.
    pub(crate) fn sign_bundle(&self, agent: &str, version: u64, body: &[u8]) -> String {
        let header = json!({
            "alg": "ES256", "kid": self.bundle_jwk().kid, "typ": "portcullis-bundle+jws", "agent": agent,
            "version": version,
        });
        let whole = self.bundle_key.sign_octets(header.to_string().as_bytes(), body);
        let mut parts = whole.split('.');
        format!("{}..{}", parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default())
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

/// Kind of the one row that is not in a table.
const SETTINGS: &str = "tenant";
/// The one row about the clock.
pub(crate) const AHEAD: &str = "ahead_s";

fn no_tenant(name: &str) -> Problem {
    Problem::not_found(format!("no tenant `{name}`"))
}
