//! Settings of the agent: environment, file, flags, in rising order of precedence.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use portcullis_enforcer::agent::{AgentConfig, IssuerConfig, Trust};
use portcullis_enforcer::kernel;
use portcullis_scenarios::FileProblem;
use serde::Deserialize;

use super::WITHOUT_BPF;
use crate::following::{self, env};

/// Settings on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    #[command(flatten)]
    following: following::Flags,
    /// cgroup2 directory whose processes are covered; absent: the whole host
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Directory on the BPF file system that holds the programs [default: /sys/fs/bpf/portcullis/default]
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
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
    pub(crate) ca: Option<Vec<PathBuf>>,
    pub(crate) insecure_http: Option<bool>,
    pub(crate) identity: Option<PathBuf>,
    pub(crate) bundle_key: Option<PathBuf>,
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
/// Puts the settings together.
pub fn read(flags: Flags, file: Option<&Path>) -> Result<Settings, FileProblem> {
    let environment = Settings {
        api_url: env("AUTHFI_API_URL"),
        tenant: env("AUTHFI_TENANT"),
        agent_id: env("AUTHFI_AGENT_ID"),
        agent_token: env("AUTHFI_AGENT_TOKEN"),
        api_key: env("AUTHFI_API_KEY"),
        ..Settings::default()
    };
    let file = file.map(read_file).transpose()?.unwrap_or_default();
    let Flags { following, cgroup, pins, metrics } = flags;
    let following::Flags {
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
    } = following;
    let flags = Settings {
        api_url,
        tenant,
        agent_id,
        cgroup,
        pins,
        ca: (!ca.is_empty()).then_some(ca),
        insecure_http: insecure_http.then_some(true),
        identity,
        bundle_key,
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
            ca: self.ca.or(other.ca),
            insecure_http: self.insecure_http.or(other.insecure_http),
            identity: self.identity.or(other.identity),
            bundle_key: self.bundle_key.or(other.bundle_key),
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

    /// Whom to believe.
    pub fn trust(&self) -> Trust {
        Trust {
            ca: self.ca.clone().unwrap_or_default(),
            insecure_http: self.insecure_http.unwrap_or_default(),
        }
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
            pins: _,
            ca,
            insecure_http,
            identity,
            bundle_key,
            poll_ms,
            push,
            report_ms,
            cache,
            spool,
            spool_mib,
            key_age_max_s,
            metrics,
            issuers,
        } = self;
        let flags = following::Flags {
            api_url,
            tenant,
            agent_id,
            ca: ca.unwrap_or_default(),
            insecure_http: insecure_http.unwrap_or_default(),
            identity,
            bundle_key,
            poll_ms,
            no_push: !push.unwrap_or(true),
            report_ms,
            cache,
            spool,
            spool_mib,
            key_age_max_s,
        };
        let issuers = issuers.unwrap_or_default();
        let (plane, follow) =
            following::resolve("agent", following::Settings { flags, agent_token, api_key, issuers })?;
        let cgroup = match cgroup {
            Some(cgroup) => cgroup,
            None => kernel::cgroup2_mount().context(WITHOUT_BPF)?,
        };
        let kernel = kernel::Config { pins, ..kernel::Config::new("default", cgroup) };
        Ok(AgentConfig { metrics, ..AgentConfig::new(plane, follow, kernel) })
    }
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
        let trust = parse("ca = [\"a.pem\"]\ninsecure_http = true\n").unwrap().trust();
        assert_eq!(trust, Trust { ca: vec!["a.pem".into()], insecure_http: true });
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
        assert_eq!(known.into_config().unwrap().follow.poll, std::time::Duration::from_secs(30));
    }
}
