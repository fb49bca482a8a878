//! Settings of the proxy.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use portcullis_gateway::{Config, Following, Forwarded, Limits, Local, Source, Timeouts, TlsFiles, Upstream};
use portcullis_scenarios::FileProblem;
use portcullis_scenarios::spec::load_policies;
use portcullis_wire::{Bundle, Issuer, JwkSet};

use crate::following::{self, env};

/// Settings on the command line.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// The application, as HOST:PORT or http://HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = upstream)]
    upstream: Upstream,
    /// The port that policies name [default: that of --upstream]
    #[arg(long)]
    port: Option<u16>,

    /// Policy file; can be given again
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Policies and keys",
        requires = "jwks",
        conflicts_with = "api_url"
    )]
    policies: Vec<PathBuf>,
    /// JSON Web Key Set of the issuer (RFC 7517)
    #[arg(long, value_name = "FILE", help_heading = "Policies and keys", requires_all = ["policies", "issuer", "audience"])]
    jwks: Option<PathBuf>,
    /// Exact `iss` of the tokens that these keys verify
    #[arg(long, value_name = "ISS", help_heading = "Policies and keys", requires = "jwks")]
    issuer: Option<String>,
    /// Audience that tokens are accepted for; can be given again
    #[arg(long, value_name = "AUD", help_heading = "Policies and keys", requires = "jwks")]
    audience: Vec<String>,
    /// Clock leeway of token checks, seconds, at most 300
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=300), default_value = "0", help_heading = "Policies and keys")]
    leeway_s: u32,
    /// Configuration as the control plane serves it: issuers, policies, revocations
    #[arg(long, value_name = "FILE", help_heading = "Policies and keys", conflicts_with_all = ["policies", "jwks", "api_url"])]
    bundle: Option<PathBuf>,

    #[command(flatten)]
    following: following::Flags,

    /// Certificate chain (PEM): clients speak TLS, with HTTP/2 or HTTP/1.1
    #[arg(long, value_name = "FILE", help_heading = "Protocols", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Protocols", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// HTTP/2 without TLS too, by prior knowledge
    #[arg(long, help_heading = "Protocols", conflicts_with = "tls_cert")]
    h2c: bool,
    /// What becomes of X-Forwarded-For and X-Forwarded-Proto
    #[arg(long, value_enum, default_value = "set", help_heading = "Protocols")]
    forwarded: ForwardedChoice,

    /// Access records, one JSON object a line; `-`: standard output
    #[arg(long, value_name = "FILE", help_heading = "Operation")]
    log: Option<PathBuf>,
    /// Connections at a time; more wait
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Operation")]
    connections: usize,
    /// Longest time for a TLS handshake and for a whole request head
    #[arg(long, value_name = "MS", default_value = "10000", help_heading = "Operation")]
    head_ms: u64,
    /// Longest time between two requests, and between two pieces of a body
    #[arg(long, value_name = "MS", default_value = "60000", help_heading = "Operation")]
    idle_ms: u64,
    /// Longest time for connecting to the application
    #[arg(long, value_name = "MS", default_value = "5000", help_heading = "Operation")]
    connect_ms: u64,
    /// Longest time for the application's answer to a whole request
    #[arg(long, value_name = "MS", default_value = "60000", help_heading = "Operation")]
    response_ms: u64,
    /// Longest time for requests under way when the proxy is told to end
    #[arg(long, value_name = "MS", default_value = "10000", help_heading = "Operation")]
    stop_ms: u64,
}

/// What becomes of X-Forwarded-For and X-Forwarded-Proto.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ForwardedChoice {
    /// Written anew; what clients send of this kind (Forwarded, X-Real-IP …) is removed
    Set,
    /// The peer is appended: a load balancer that is trusted stands before the proxy
    Append,
}

/// How often files are looked at.
const LOOK_MS_DEFAULT: u64 = 1_000;

fn upstream(text: &str) -> Result<Upstream, String> {
    Upstream::parse(text).map_err(|error| error.to_string())
}

// === impl Flags ===

impl Flags {
    /// Whether standard output is for access records.
    pub fn logs_to_stdout(&self) -> bool {
        self.log.as_deref() == Some(Path::new("-"))
    }
}

/// As the gateway takes them. The inner error is about files.
pub fn into_config(flags: Flags) -> anyhow::Result<Result<Config, Vec<FileProblem>>> {
    let poll = flags.following.poll_ms.unwrap_or(LOOK_MS_DEFAULT);
    let source = match source(&flags)? {
        Ok(source) => source,
        Err(problems) => return Ok(Err(problems)),
    };
    let log = match flags.log.as_deref().map(open).transpose() {
        Ok(log) => log,
        Err(problem) => return Ok(Err(vec![problem])),
    };
    let ms = |ms: u64| Duration::from_millis(ms.max(1));
    Ok(Ok(Config {
        port: flags.port,
        poll: ms(poll),
        tls: flags.tls_cert.zip(flags.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        h2c: flags.h2c,
        forwarded: match flags.forwarded {
            ForwardedChoice::Set => Forwarded::Set,
            ForwardedChoice::Append => Forwarded::Append,
        },
        limits: Limits { connections: flags.connections.max(1), ..Limits::default() },
        timeouts: Timeouts {
            head: ms(flags.head_ms),
            idle: ms(flags.idle_ms),
            connect: ms(flags.connect_ms),
            response: ms(flags.response_ms),
            stop: ms(flags.stop_ms),
        },
        log,
        ..Config::new(flags.listen, flags.upstream, source)
    }))
}

fn source(flags: &Flags) -> anyhow::Result<Result<Source, Vec<FileProblem>>> {
    let watched: Vec<PathBuf> =
        flags.policies.iter().chain(&flags.jwks).chain(&flags.bundle).cloned().collect();
    // Files are named on the command line only, so they are nearer than the environment.
    let from_env = || env("AUTHFI_API_URL").filter(|_| watched.is_empty());
    if let Some(url) = flags.following.api_url.clone().or_else(from_env) {
        return Ok(Ok(Source::Plane(Box::new(plane(flags, url)?))));
    }
    if watched.is_empty() {
        bail!(
            "where do policies come from? Give --policies and --jwks, or --bundle, or --api-url; `portcullis proxy --help` has examples"
        );
    }
    let issuer = flags.issuer.clone().zip(flags.jwks.clone());
    let (audiences, leeway_s) = (flags.audience.clone(), flags.leeway_s);
    let (policies, bundle) = (flags.policies.clone(), flags.bundle.clone());
    let read = move || match &bundle {
        Some(path) => {
            read_json::<Bundle>(path, "write it as the control plane serves it: GET …/agents/ID/config")
        }
        None => read_files(&policies, issuer.as_ref(), &audiences, leeway_s),
    };
    // The first time, every problem is shown by itself.
    if let Err(problems) = read() {
        return Ok(Err(problems));
    }
    let load = move || read().map_err(|problems| lines(&problems));
    Ok(Ok(Source::Local(Local { load: Box::new(load), watched })))
}

fn plane(flags: &Flags, url: String) -> anyhow::Result<Following> {
    let mut following = flags.following.clone();
    following.api_url = Some(url);
    following.tenant = following.tenant.or_else(|| env("AUTHFI_TENANT"));
    following.agent_id = following.agent_id.or_else(|| env("AUTHFI_AGENT_ID"));
    let settings = following::Settings {
        flags: following,
        agent_token: env("AUTHFI_AGENT_TOKEN"),
        api_key: env("AUTHFI_API_KEY"),
        issuers: Vec::new(),
    };
    let (plane, follow) = following::resolve("proxy", settings)?;
    Ok(Following { plane, follow })
}

fn read_files(
    policies: &[PathBuf],
    issuer: Option<&(String, PathBuf)>,
    audiences: &[String],
    leeway_s: u32,
) -> Result<Bundle, Vec<FileProblem>> {
    let mut bundle = Bundle::default();
    let mut problems = Vec::new();
    for file in policies {
        match load_policies(file) {
            Ok(loaded) => bundle.policies.extend(loaded.policies),
            Err(found) => problems.extend(found),
        }
    }
    if let Some((issuer, file)) = issuer {
        match read_json::<JwkSet>(file, "write a JSON Web Key Set: {\"keys\": […]}") {
            Ok(jwks) => bundle.issuers.push(Issuer {
                issuer: issuer.clone(),
                audiences: audiences.to_vec(),
                leeway_s,
                jwks,
            }),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(bundle) } else { Err(problems) }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, remedy: &str) -> Result<T, Vec<FileProblem>> {
    let text = fs::read(path).map_err(|error| {
        vec![FileProblem::new(path, (0, 0), error.to_string(), "check the path and its permissions")]
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        let place = (error.line() as u64, error.column() as u64);
        vec![FileProblem::new(path, place, error.to_string(), remedy)]
    })
}

fn open(path: &Path) -> Result<Box<dyn Write + Send>, FileProblem> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|error| {
        FileProblem::new(path, (0, 0), error.to_string(), "name a file that can be written, or `-`")
    })?;
    Ok(Box::new(file))
}

fn lines(problems: &[FileProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
