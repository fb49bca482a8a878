//! Settings of the agent: environment, file, flags, in rising order of precedence.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use portcullis_enforcer::agent::{AgentConfig, Identity, IssuerConfig, SpoolConfig};
use portcullis_enforcer::kernel;
use portcullis_scenarios::FileProblem;
use serde::Deserialize;

/// Settings on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Base URL of the control plane
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Identifier from the registration; absent: the agent registers itself, with AUTHFI_API_KEY
    #[arg(long, value_name = "ID")]
    agent_id: Option<String>,
    /// cgroup2 directory whose processes are covered; absent: the whole host
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Directory on the BPF file system that holds the programs [default: /sys/fs/bpf/portcullis/default]
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// How often the configuration is asked for, besides waiting for changes [default: 30000]
    #[arg(long, value_name = "MS")]
    poll_ms: Option<u64>,
    /// Do not wait for changes: ask only every poll-ms
    #[arg(long)]
    no_push: bool,
    /// How often access records are sent [default: poll-ms, at most 1000]
    #[arg(long, value_name = "MS")]
    report_ms: Option<u64>,
    /// File that keeps the last good configuration over restarts
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Directory where access records wait for the control plane; absent: they wait in memory
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Most that they may take there, MiB; beyond, the oldest are lost, and counted [default: 256]
    #[arg(long, value_name = "MIB")]
    spool_mib: Option<u64>,
    /// Keys that nobody confirmed for this long are not used any more; 0: they are used for ever [default: 86400]
    #[arg(long, value_name = "S")]
    key_age_max_s: Option<u64>,
    /// Address where Prometheus gets figures, at /metrics: 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

/// Settings, from wherever.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub(crate) api_url: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) agent_token: Option<String>,
    pub(crate) api_key: Option<String>,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) pins: Option<PathBuf>,
    pub(crate) poll_ms: Option<u64>,
    pub(crate) push: Option<bool>,
    pub(crate) report_ms: Option<u64>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) spool: Option<PathBuf>,
    pub(crate) spool_mib: Option<u64>,
    pub(crate) key_age_max_s: Option<u64>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) issuers: Option<Vec<IssuerConfig>>,
}

const PINS_DEFAULT: &str = "/sys/fs/bpf/portcullis/default";
const POLL_MS_DEFAULT: u64 = 30_000;
const REPORT_MS_MAX_DEFAULT: u64 = 1_000;
const SPOOL_MIB_DEFAULT: u64 = 256;
const KEY_AGE_MAX_S_DEFAULT: u64 = 86_400;

/// Puts the settings together.
pub fn read(flags: Flags, file: Option<&Path>) -> Result<Settings, FileProblem> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let environment = Settings {
        api_url: env("AUTHFI_API_URL"),
        tenant: env("AUTHFI_TENANT"),
        agent_id: env("AUTHFI_AGENT_ID"),
        agent_token: env("AUTHFI_AGENT_TOKEN"),
        api_key: env("AUTHFI_API_KEY"),
        ..Settings::default()
    };
    let file = file.map(read_file).transpose()?.unwrap_or_default();
    let Flags {
        api_url,
        tenant,
        agent_id,
        cgroup,
        pins,
        poll_ms,
        no_push,
        report_ms,
        cache,
        spool,
        spool_mib,
        key_age_max_s,
        metrics,
    } = flags;
    let flags = Settings {
        api_url,
        tenant,
        agent_id,
        cgroup,
        pins,
        poll_ms,
        push: no_push.then_some(false),
        report_ms,
        cache,
        spool,
        spool_mib,
        key_age_max_s,
        metrics,
        ..Settings::default()
    };
    Ok(flags.over(file).over(environment))
}

fn read_file(path: &Path) -> Result<Settings, FileProblem> {
    let refuse = |place, message: String, remedy: &str| FileProblem::new(path, place, message, remedy);
    let text = fs::read_to_string(path)
        .map_err(|error| refuse((0, 0), error.to_string(), "check the path and its permissions"))?;
    parse(&text).map_err(|(place, message)| {
        refuse(place, message, "`portcullis agent --help` has the names and what they mean")
    })
}

fn parse(text: &str) -> Result<Settings, ((u64, u64), String)> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
        ((line, column), error.message().lines().next().unwrap_or_default().to_owned())
    })
}

// === impl Settings ===

impl Settings {
    /// These, and where they say nothing, the others.
    fn over(self, other: Settings) -> Settings {
        Settings {
            api_url: self.api_url.or(other.api_url),
            tenant: self.tenant.or(other.tenant),
            agent_id: self.agent_id.or(other.agent_id),
            agent_token: self.agent_token.or(other.agent_token),
            api_key: self.api_key.or(other.api_key),
            cgroup: self.cgroup.or(other.cgroup),
            pins: self.pins.or(other.pins),
            poll_ms: self.poll_ms.or(other.poll_ms),
            push: self.push.or(other.push),
            report_ms: self.report_ms.or(other.report_ms),
            cache: self.cache.or(other.cache),
            spool: self.spool.or(other.spool),
            spool_mib: self.spool_mib.or(other.spool_mib),
            key_age_max_s: self.key_age_max_s.or(other.key_age_max_s),
            metrics: self.metrics.or(other.metrics),
            issuers: self.issuers.or(other.issuers),
        }
    }

    /// Where the programs are pinned.
    pub fn pins(&self) -> PathBuf {
        self.pins.clone().unwrap_or_else(|| PathBuf::from(PINS_DEFAULT))
    }

    /// As the agent takes them.
    pub fn into_config(self) -> anyhow::Result<AgentConfig> {
        let pins = self.pins();
        let Settings {
            api_url,
            tenant,
            agent_id,
            agent_token,
            api_key,
            cgroup,
            poll_ms,
            push,
            report_ms,
            cache,
            spool,
            spool_mib,
            key_age_max_s,
            metrics,
            issuers,
            pins: _,
        } = self;
        let identity = match (agent_id, agent_token, api_key) {
            (Some(agent_id), Some(secret), _) => Identity::Known { agent_id, secret },
            (_, _, Some(api_key)) => Identity::Register { api_key, hostname: hostname()? },
            (None, Some(_), None) => {
                bail!("an agent's token without its identifier: set AUTHFI_AGENT_ID too")
            }
            (_, None, None) => {
                bail!(
                    "who is the agent? Set AUTHFI_AGENT_ID and AUTHFI_AGENT_TOKEN, or AUTHFI_API_KEY to register"
                )
            }
        };
        let cgroup = match cgroup {
            Some(cgroup) => cgroup,
            None => kernel::cgroup2_mount()?,
        };
        let poll_ms = poll_ms.unwrap_or(POLL_MS_DEFAULT).max(1);
        let report_ms = report_ms.unwrap_or(poll_ms.min(REPORT_MS_MAX_DEFAULT)).max(1);
        let api_url = api_url.context("where is the control plane? Set AUTHFI_API_URL or --api-url")?;
        let tenant = tenant.context("which tenant? Set AUTHFI_TENANT or --tenant")?;
        let kernel = kernel::Config { pins, ..kernel::Config::new("default", cgroup) };
        let bytes_max = spool_mib.unwrap_or(SPOOL_MIB_DEFAULT).saturating_mul(1 << 20);
        let key_age_max_s = key_age_max_s.unwrap_or(KEY_AGE_MAX_S_DEFAULT);
        Ok(AgentConfig {
            poll: Duration::from_millis(poll_ms),
            push: push.unwrap_or(true),
            report: Duration::from_millis(report_ms),
            cache,
            spool: spool.map(|dir| SpoolConfig { dir, bytes_max }),
            issuers: issuers.unwrap_or_default(),
            metrics,
            key_age_max: (key_age_max_s > 0).then(|| Duration::from_secs(key_age_max_s)),
            ..AgentConfig::new(api_url, tenant, identity, kernel)
        })
    }
}

fn hostname() -> anyhow::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    Ok(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_source_holds() {
        let near = Settings { tenant: Some("near".to_owned()), ..Settings::default() };
        let far = Settings { tenant: Some("far".to_owned()), poll_ms: Some(7), ..Settings::default() };
        let both = near.over(far);
        assert_eq!((both.tenant.as_deref(), both.poll_ms), (Some("near"), Some(7)));
    }

    #[test]
    fn a_file_names_what_it_does_not_know_with_its_place() {
        assert_eq!(parse("tenant = \"acme\"\n").unwrap().tenant.as_deref(), Some("acme"));
        let (place, message) = parse("tenant = \"acme\"\npoll = 5\n").unwrap_err();
        assert_eq!(place, (2, 1));
        assert!(message.contains("unknown field `poll`"), "{message}");
        assert_eq!(parse("poll_ms = \"often\"\n").unwrap_err().0, (1, 11));
    }

    #[test]
    fn an_agent_must_know_who_it_is() {
        let some = |text: &str| Some(text.to_owned());
        let base = || Settings {
            api_url: some("http://plane"),
            tenant: some("t"),
            cgroup: Some("/c".into()),
            ..Settings::default()
        };
        let error = base().into_config().unwrap_err().to_string();
        assert!(error.contains("AUTHFI_API_KEY"), "{error}");
        let known = Settings { agent_id: some("a"), agent_token: some("s"), ..base() };
        assert_eq!(known.into_config().unwrap().poll, Duration::from_secs(30));
    }
}
