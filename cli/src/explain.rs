//! `portcullis explain`: one decision, traced.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use portcullis_mock_control_plane::Clock;
use portcullis_policy::{Request, Token};
use portcullis_wire::{Method, Reason};

use crate::Exit;
use crate::output::{self, Format};
use crate::policies::{self, Claims};
use crate::request;

/// Say how one request is decided, and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis explain --policy policy.yaml GET /orders/7
  portcullis explain --policy policy.yaml DELETE /orders/7 --claims '{\"roles\":[\"reader\"]}'
  portcullis explain --policy policy.yaml GET /admin --host api.example.com --claims @claims.json
  portcullis explain --policy policy.yaml GET /orders/7 --token-refused token_expired

The exit status is 0 whatever the decision is, and 2 if it cannot be made.")]
pub struct Args {
    /// Policy file, or scenario file for the policies in it
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Method, as in the request line
    #[arg(value_name = "METHOD")]
    method: String,
    /// Request target, as in the request line; a query is not looked at
    #[arg(value_name = "TARGET")]
    target: String,
    /// Host of the request
    #[arg(long)]
    host: Option<String>,
    /// Port that the request comes to; absent: the first policy's
    #[arg(long)]
    port: Option<u16>,
    /// Claims of a verified token: JSON, or @ and a file with it; absent: no token
    #[arg(long, value_name = "JSON|@FILE", conflicts_with = "token_refused")]
    claims: Option<String>,
    /// Reason for which the token is refused, for example token_expired
    #[arg(long, value_name = "REASON")]
    token_refused: Option<String>,
    /// Time of the request, Unix seconds; absent: now
    #[arg(long, value_name = "SECONDS")]
    now: Option<u64>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub fn explain(args: Args) -> Exit {
    let Args { policy, method, target, host, port, claims, token_refused, now, format } = args;
    let set = match policies::read(&policy, port.unwrap_or(80)) {
        Ok(set) => set,
        Err(problems) => return Ok(output::refuse(&problems)),
    };
    let Some(port) = port.or_else(|| set.policies().first().map(portcullis_policy::Policy::port)) else {
        bail!("{} holds no policy", policy.display());
    };
    let claims = claims.map(|text| read_claims(&text)).transpose()?;
    let token = match (&claims, token_refused) {
        (Some(claims), _) => Token::Valid(claims.view()),
        (None, Some(slug)) => Token::Invalid(refusal(&slug)?),
        (None, None) => Token::None,
    };
    let path = match request::canonical_path(&target) {
        Ok(path) => path,
        Err(reason) => {
            // Such a request is refused before any policy is asked.
            let status = reason.status().unwrap_or_default();
            output::print(&format!("{method} {target}\ndeny, {status}: {} ({reason})\n", reason.text()))?;
            return Ok(0);
        }
    };
    let host = host.as_deref().map(request::canonical_host).transpose()?;
    let request =
        Request { port, host: host.as_deref(), method: Method::parse(method.as_bytes()), path: &path };
    let trace = set.explain(&request, &token, now.unwrap_or_else(|| Clock::system().now_s()));
    match format {
        Format::Json => output::print_json(&trace)?,
        Format::Table => output::print(&format!("{trace}\n"))?,
    }
    Ok(0)
}

fn read_claims(text: &str) -> anyhow::Result<Claims> {
    let text = match text.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).with_context(|| format!("reading {file}"))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text)
        .context("reading the claims; write a JSON object like {\"roles\":[\"reader\"]}")
}

fn refusal(slug: &str) -> anyhow::Result<Reason> {
    let refusals = || Reason::ALL.iter().filter(|reason| reason.slug().starts_with("token_"));
    match Reason::from_slug(slug).filter(|reason| refusals().any(|known| known == reason)) {
        Some(reason) => Ok(reason),
        None => {
            let known: Vec<&str> = refusals().map(|reason| reason.slug()).collect();
            bail!("`{slug}` is no reason to refuse a token; known: {}", known.join(", "))
        }
    }
}
