//! How the agent and the proxy follow a control plane: settings that they share.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use portcullis_enforcer::agent::{FollowConfig, Identity, IssuerConfig, PlaneConfig, SpoolConfig, Trust};

/// Settings on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "following")]
pub struct Flags {
    /// Base URL of the control plane: https://HOST:PORT, or http:// on this host
    #[arg(long, help_heading = HEADING, value_name = "URL")]
    pub api_url: Option<String>,
    /// Tenant
    #[arg(long, help_heading = HEADING)]
    pub tenant: Option<String>,
    /// Identifier from the registration; absent: that of the identity file, else it registers, with AUTHFI_API_KEY
    #[arg(long, help_heading = HEADING, value_name = "ID")]
    pub agent_id: Option<String>,
    /// Certificates (PEM) of authorities that vouch for the control plane and for issuers, besides the system's; can
    /// be given again
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// Speak plain HTTP to a control plane or an issuer on another host too: whoever is on the way reads the secrets,
    /// holds changes back, and writes the policies of an agent that does not know the bundle key
    #[arg(long, help_heading = HEADING)]
    pub insecure_http: bool,
    /// File that keeps who this is after a registration, with the secret, and the key that configurations are signed
    /// with [default: that of --cache, with `.identity` behind it]
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The key that configurations are signed with, as a JWK: what the registration gave as `bundle_key`; absent: the
    /// control plane is believed once, and the key kept
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub bundle_key: Option<PathBuf>,
    /// How often the configuration is asked for, besides waiting for changes [default: 30000]
    #[arg(long, help_heading = HEADING, value_name = "MS")]
    pub poll_ms: Option<u64>,
    /// Do not wait for changes: ask only every poll-ms
    #[arg(long, help_heading = HEADING)]
    pub no_push: bool,
    /// How often access records are sent [default: poll-ms, at most 1000]
    #[arg(long, help_heading = HEADING, value_name = "MS")]
    pub report_ms: Option<u64>,
    /// File that keeps the last good configuration over restarts; beside it, with `.keys` behind it, those of issuers
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub cache: Option<PathBuf>,
    /// Directory where access records wait for the control plane; absent: they wait in memory
    #[arg(long, help_heading = HEADING, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// Most that they may take there, MiB; beyond, the oldest are lost, and counted [default: 256]
    #[arg(long, help_heading = HEADING, value_name = "MIB")]
    pub spool_mib: Option<u64>,
    /// Keys that nobody confirmed for this long are not used any more; 0: they are used for ever [default: 86400]
    #[arg(long, help_heading = HEADING, value_name = "S")]
    pub key_age_max_s: Option<u64>,
}

/// Settings, from wherever.
#[derive(Debug, Default)]
pub struct Settings {
    pub flags: Flags,
    pub agent_token: Option<String>,
    pub api_key: Option<String>,
    pub issuers: Vec<IssuerConfig>,
}

const HEADING: &str = "Control plane";
const POLL_MS_DEFAULT: u64 = 30_000;
const REPORT_MS_MAX_DEFAULT: u64 = 1_000;
const SPOOL_MIB_DEFAULT: u64 = 256;
const KEY_AGE_MAX_S_DEFAULT: u64 = 86_400;

/// As the agent and the proxy take them. `who`: which of them it is, in messages.
pub fn resolve(who: &str, settings: Settings) -> anyhow::Result<(PlaneConfig, FollowConfig)> {
    let Settings { flags, agent_token, api_key, issuers } = settings;
    let Flags {
        api_url,
        tenant,
        agent_id,
        ca,
        insecure_http,
        identity,
        bundle_key,
        poll_ms,
        no_push,
        report_ms,
        cache,
        spool,
        spool_mib,
        key_age_max_s,
    } = flags;
    let named = match (agent_id, agent_token, api_key) {
        (Some(agent_id), Some(secret), _) => Identity::Known { agent_id, secret },
        (_, _, Some(api_key)) => Identity::Register { api_key, hostname: hostname()? },
        (None, Some(_), None) => {
            bail!("an agent's token without its identifier: set AUTHFI_AGENT_ID too")
        }
        (_, None, None) => {
            bail!(
                "who is the {who}? Set AUTHFI_AGENT_ID and AUTHFI_AGENT_TOKEN, or AUTHFI_API_KEY to register"
            )
        }
    };
    let api_url = api_url.context("where is the control plane? Set AUTHFI_API_URL or --api-url")?;
    let tenant = tenant.context("which tenant? Set AUTHFI_TENANT or --tenant")?;
    let plane = PlaneConfig {
        identity_file: identity.or_else(|| cache.as_deref().map(identity_beside)),
        bundle_key: bundle_key.as_deref().map(read_key).transpose()?,
        trust: Trust { ca, insecure_http },
        ..PlaneConfig::new(api_url, tenant, named)
    };
    let poll_ms = poll_ms.unwrap_or(POLL_MS_DEFAULT).max(1);
    let report_ms = report_ms.unwrap_or(poll_ms.min(REPORT_MS_MAX_DEFAULT)).max(1);
    let bytes_max = spool_mib.unwrap_or(SPOOL_MIB_DEFAULT).saturating_mul(1 << 20);
    let key_age_max_s = key_age_max_s.unwrap_or(KEY_AGE_MAX_S_DEFAULT);
    let follow = FollowConfig {
        poll: Duration::from_millis(poll_ms),
        push: !no_push,
        report: Duration::from_millis(report_ms),
        cache,
        spool: spool.map(|dir| SpoolConfig { dir, bytes_max }),
        issuers,
        key_age_max: (key_age_max_s > 0).then(|| Duration::from_secs(key_age_max_s)),
        ..FollowConfig::default()
    };
    Ok((plane, follow))
}

/// A variable of the environment that is set to something.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The identity file of a cache.
pub fn identity_beside(cache: &Path) -> PathBuf {
    let mut name = cache.file_name().unwrap_or_default().to_owned();
    name.push(".identity");
    cache.with_file_name(name)
}

fn read_key<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let at = || format!("--bundle-key {}: write it as the registration gave it: a JWK", path.display());
    let text = fs::read(path).with_context(at)?;
    serde_json::from_slice(&text).with_context(at)
}

fn hostname() -> anyhow::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    Ok(name.trim().to_owned())
}
