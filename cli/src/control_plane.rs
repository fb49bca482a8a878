//! `portcullis control-plane`: the mock control plane by itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use portcullis_mock_control_plane::{Config, ControlPlane, Plan, TenantConfig, TlsFiles};
use portcullis_scenarios::spec;

use crate::{Exit, output};

/// Serve policies, keys, users and the access log of one tenant, from memory or a file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis control-plane --api-key sesame --policy policy.yaml
  portcullis control-plane --api-key sesame --test-api
  portcullis control-plane --api-key sesame --state plane.db --plan scale
  portcullis control-plane --api-key sesame --tls-cert chain.pem --tls-key key.pem --url https://plane.example:8787
  curl -H 'X-API-Key: sesame' http://127.0.0.1:8787/manage/v1/acme/access/policies
  curl -d '{\"claims\":{\"roles\":[\"reader\"]}}' http://127.0.0.1:8787/v1/acme/test/mint

--test-api lets everybody who reaches the port make tokens: on test systems only.")]
pub struct Args {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Serve HTTPS with this certificate chain, PEM, the server's own certificate first
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where clients reach it: begins issuer names and links [default: the listening address, or what the state says]
    #[arg(long, value_name = "URL", value_parser = base_url)]
    url: Option<String>,
    /// Tenant, as it stands in the URLs
    #[arg(long, env = "AUTHFI_TENANT", default_value = "acme")]
    tenant: String,
    /// Key of the management interface
    #[arg(
        long,
        env = "AUTHFI_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        required_unless_present = "print_openapi"
    )]
    api_key: Option<String>,
    /// Audience that tokens are accepted for; can be given again
    #[arg(long, value_name = "AUD", default_value = "api://acme")]
    audience: Vec<String>,
    /// Clock leeway of token checks, seconds, at most 300
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=300), default_value = "0")]
    leeway_s: u32,
    /// Policy file to begin with; can be given again
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Keep the state in this SQLite file, made if there is none, readable by its owner only: it holds signing keys.
    /// Whatever was answered survives the end of the process, by whatever signal. Without it the state is in memory
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Plan of the tenant: its limits, and how long the access log is kept [default: what the state says, or enterprise]
    #[arg(long, value_enum)]
    plan: Option<PlanName>,
    /// Offer the test interface: a mint for any token, faults on demand, a movable clock
    #[arg(long)]
    test_api: bool,
    /// Print the OpenAPI 3.1 description of the interface, and end
    #[arg(long)]
    print_openapi: bool,
}

/// A plan by its name.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PlanName {
    /// 3 agents, 10 protected ports, 14 days of access log
    Scale,
    /// Any number of agents and ports, 365 days of access log
    Enterprise,
}

// === impl PlanName ===

impl From<PlanName> for Plan {
    fn from(name: PlanName) -> Plan {
        match name {
            PlanName::Scale => Plan::Scale,
            PlanName::Enterprise => Plan::Enterprise,
        }
    }
}

/// A URL that paths can be appended to.
fn base_url(text: &str) -> Result<String, String> {
    let base = text.trim_end_matches('/');
    let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['?', '#', ' ', '@']) => Ok(base.to_owned()),
        Some(_) | None => Err("write http:// or https://, a host, and a port if need be".to_owned()),
    }
}

pub fn control_plane(args: Args) -> Exit {
    let Args {
        listen,
        tls_cert,
        tls_key,
        url,
        tenant,
        api_key,
        audience,
        leeway_s,
        policy,
        state,
        plan,
        test_api,
        print_openapi,
    } = args;
    if print_openapi {
        output::print(&format!("{:#}\n", portcullis_mock_control_plane::openapi()))?;
        return Ok(0);
    }
    let api_key = api_key.unwrap_or_default();
    let mut policies = Vec::new();
    for file in &policy {
        match spec::load_policies(file) {
            Ok(loaded) => policies.extend(loaded.policies),
            Err(problems) => return Ok(output::refuse(&problems)),
        }
    }
    let row = TenantConfig {
        name: tenant.clone(),
        api_key,
        audiences: audience,
        leeway_s,
        plan: plan.map(Plan::from),
    };
    let tls = tls_cert.zip(tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
    let issuer_base = url.clone();
    let config =
        Config { listen, tls, issuer_base, tenants: vec![row], test_api, state, ..Config::default() };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let mut server = ControlPlane::start(config).await.context("starting the control plane")?;
        let count = policies.len();
        for policy in policies {
            let name = policy.name.clone();
            let published = server.publish(&tenant, policy).await;
            published.map_err(|problem| anyhow::anyhow!("policy `{name}`: {}", problem.detail))?;
        }
        let url = url.unwrap_or_else(|| server.url());
        output::print(&format!(
            "control plane: {url}\ntenant {tenant}: {count} policies, keys at {url}/v1/{tenant}/.well-known/jwks.json\n",
        ))?;
        tokio::select! {
            ended = server.wait() => ended.context("serving")?,
            asked = tokio::signal::ctrl_c() => asked.context("waiting for a signal")?,
        }
        server.shutdown().await;
        Ok(0)
    })
}
