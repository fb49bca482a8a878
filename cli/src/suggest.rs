//! `portcullis suggest`: a policy from traffic.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use portcullis_enforcer::draft::{Draft, Replay, draft, replay, yaml};
use portcullis_enforcer::learn::Learner;
use portcullis_scenarios::access_log;
use portcullis_wire::AccessLog;
use serde::Deserialize;

use crate::Exit;
use crate::output;

/// Draft a policy that allows what was seen and nothing else
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads access records: an array of JSON, an object with `logs`, or a record a line; `-` is standard input. Or asks a
control plane for them, with AUTHFI_API_URL, AUTHFI_TENANT and AUTHFI_API_KEY. Only requests that passed count, so begin
with a policy in monitor mode. Identifiers in paths become {id}.

The draft is valid, denies what was never seen, is in monitor mode, and was tried on the traffic that it came from. Roles
are known only as far as the policies of that time name them.

Examples:
  portcullis suggest --logs access.jsonl >draft.yaml
  curl -s -H \"X-API-Key: $KEY\" \"$URL/manage/v1/acme/access/logs?limit=10000\" | portcullis suggest --logs - --port 8080
  AUTHFI_API_URL=http://127.0.0.1:8787 AUTHFI_TENANT=acme AUTHFI_API_KEY=sk_demo portcullis suggest

Exit status: 0 the draft passes all that passed, 1 it would deny some of it, 2 there is nothing to draft from.")]
pub struct Args {
    /// File with access records; absent: the control plane's
    #[arg(long, value_name = "FILE")]
    logs: Option<PathBuf>,
    /// Only requests to this port
    #[arg(long)]
    port: Option<u16>,
}

pub fn suggest(args: Args) -> Exit {
    let Args { logs, port } = args;
    let mut records = match logs {
        Some(file) => read(&file)?,
        None => ask()?,
    };
    records.retain(|record| port.is_none_or(|port| record.destination_port == port));
    let mut learner = Learner::default();
    records.iter().for_each(|record| learner.observe(record));
    let Draft { policies, notes } = draft(&learner.endpoints());
    ensure!(
        policies.iter().any(|policy| !policy.rules.is_empty()),
        "no request passed, among {} records: nothing to draft from",
        records.len()
    );
    let Replay { pass, denied, denied_count } = replay(&policies, &records).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the draft is not valid: {}", texts.join("; "))
    })?;
    output::print(&yaml(&policies))?;
    for note in notes {
        eprintln!("note: {note}");
    }
    if learner.beyond() > 0 {
        eprintln!("note: {} requests went to more endpoints than can be learnt", learner.beyond());
    }
    for what in &denied {
        eprintln!("warning: the draft would deny {what}");
    }
    eprintln!("{pass} requests that passed would pass, {denied_count} would not");
    Ok(u8::from(denied_count > 0))
}

fn read(file: &std::path::Path) -> anyhow::Result<Vec<AccessLog>> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        text
    } else {
        fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
    };
    parse(&text).with_context(|| format!("{}: no access records", file.display()))
}

fn parse(text: &str) -> anyhow::Result<Vec<AccessLog>> {
    #[derive(Deserialize)]
    struct Page {
        logs: Vec<AccessLog>,
    }
    match text.trim_start().as_bytes().first() {
        Some(b'[') => Ok(serde_json::from_str(text)?),
        Some(b'{') => {
            if let Ok(Page { logs }) = serde_json::from_str(text) {
                return Ok(logs);
            }
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            lines
                .map(|(n, line)| serde_json::from_str(line).with_context(|| format!("line {}", n + 1)))
                .collect()
        }
        Some(_) => bail!("it begins neither with `[` nor with `{{`"),
        None => bail!("it is empty"),
    }
}

fn ask() -> anyhow::Result<Vec<AccessLog>> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let what = "give --logs FILE, or set AUTHFI_API_URL, AUTHFI_TENANT and AUTHFI_API_KEY";
    let url = env("AUTHFI_API_URL").context(what)?;
    let (tenant, key) = (env("AUTHFI_TENANT").context(what)?, env("AUTHFI_API_KEY").context(what)?);
    let host = url.strip_prefix("http://").context("AUTHFI_API_URL is not an http:// URL")?;
    let addr: SocketAddr = std::net::ToSocketAddrs::to_socket_addrs(host.trim_end_matches('/'))
        .with_context(|| format!("{url} has no host and port"))?
        .next()
        .with_context(|| format!("{url} has no address"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(access_log(addr, &tenant, &key)).context("reading the access log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_three_forms() {
        let record = serde_json::to_string(&AccessLog::default()).unwrap();
        for text in [
            format!("[{record},{record}]"),
            format!("{{\"logs\":[{record},{record}]}}"),
            format!("{record}\n\n{record}\n"),
        ] {
            assert_eq!(parse(&text).unwrap().len(), 2, "{text}");
        }
        let error = format!("{:#}", parse(&format!("{record}\n{{}}\n")).unwrap_err());
        assert!(error.contains("line 2"), "{error}");
        parse("").unwrap_err();
        parse("nonsense").unwrap_err();
    }
}
