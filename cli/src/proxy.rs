//! `portcullis proxy`: the kernel's verdicts in a reverse proxy, for hosts without BPF.

mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use portcullis_follower::tell;
use portcullis_gateway::{Clock, Gateway, StartError, Status};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::Exit;
use crate::output::{self, Format};

/// Enforce policies in a reverse proxy before the application, where BPF is not to be had
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The proxy decides as the kernel does, for the same reasons, and tells the application who is calling: X-AuthFI-User-ID,
X-AuthFI-User-Email and X-AuthFI-User-Roles of the verified token, on allowed requests only. Whatever clients send under
such names, in any spelling, is removed. The application must not be reachable but through the proxy.

Policies name the application's port (--upstream), so that those of the kernel hold as they are; --port names another.
They come from a control plane (--api-url), from files (--policies and --jwks), or from one file as the control plane
serves it (--bundle). Files and certificates are read again when they change, and on SIGHUP; what cannot be used changes
nothing. Without a configuration every request is answered 503.

AUTHFI_API_URL, AUTHFI_TENANT, AUTHFI_AGENT_ID, AUTHFI_AGENT_TOKEN and AUTHFI_API_KEY are read as by `portcullis agent`, and a
control plane is followed in the same way: signed configurations, changes that come at once, records that wait on disk.
Secrets have no flags: other users of the host could read them.

Examples:
  portcullis proxy --listen 0.0.0.0:9090 --upstream 127.0.0.1:8080 --policies policy.yaml \\
      --jwks jwks.json --issuer https://id.example --audience api://acme --log -
  AUTHFI_API_URL=http://127.0.0.1:8787 AUTHFI_TENANT=acme AUTHFI_API_KEY=sesame \\
      portcullis proxy --listen 0.0.0.0:9090 --upstream 127.0.0.1:8080
  portcullis proxy --listen 0.0.0.0:443 --upstream 127.0.0.1:8080 --bundle bundle.json \\
      --tls-cert chain.pem --tls-key key.pem")]
pub struct Args {
    #[command(flatten)]
    flags: settings::Flags,
    /// End with standard input. A line of it with a number moves the clock there: seconds relative to the machine's
    #[arg(long, hide = true)]
    until_input_ends: bool,
    /// How events are printed: lines for people, or a JSON object a line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// How often the gateway is looked at.
const LOOK: Duration = Duration::from_millis(20);

pub fn proxy(args: Args) -> Exit {
    let Args { flags, until_input_ends, format } = args;
    let teller = Teller { format, to_stderr: flags.logs_to_stdout() };
    let mut config = match settings::into_config(flags)? {
        Ok(config) => config,
        Err(problems) => return Ok(output::refuse(&problems)),
    };
    let ahead_s = Arc::new(AtomicI64::new(0));
    if until_input_ends {
        config.clock = Clock::ahead(Arc::clone(&ahead_s));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let gateway = match Gateway::start(config).await {
            Ok(gateway) => gateway,
            // The text of each file's problem is whole.
            Err(StartError::Files(problems)) => {
                tell!("error: {problems}");
                return Ok(2);
            }
            Err(error) => return Err(error).context("starting the proxy"),
        };
        teller.listening(&gateway)?;
        watch(&gateway, teller, until_input_ends, &ahead_s).await?;
        gateway.stop().await;
        Ok(0)
    })
}

/// Prints what changes until the proxy is to end.
async fn watch(
    gateway: &Gateway,
    teller: Teller,
    until_input_ends: bool,
    ahead_s: &AtomicI64,
) -> anyhow::Result<()> {
    let on = |kind| signal(kind).context("waiting for signals");
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let mut hangup = on(SignalKind::hangup())?;
    let (lines, mut input) = mpsc::unbounded_channel();
    if until_input_ends {
        // An input that cannot be read has ended.
        thread::spawn(move || {
            std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
    } else {
        // Held open for ever: nobody waits for the input.
        std::mem::forget(lines);
    }
    let mut last = Status::default();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {
                let now = gateway.status();
                teller.tell(&last, &now)?;
                last = now;
            }
            _ = hangup.recv() => gateway.reload(),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            line = input.recv() => match line {
                None => return Ok(()),
                Some(line) => {
                    let offset_s = line.trim().parse().context("a line of the input is no number of seconds")?;
                    ahead_s.store(offset_s, Ordering::Release);
                    teller.say(&format!("the clock is {offset_s} s ahead"), &json!({ "clock_offset_s": offset_s }))?;
                }
            },
        }
    }
}

/// Where events go.
#[derive(Clone, Copy, Debug)]
struct Teller {
    format: Format,
    /// Standard output is for access records.
    to_stderr: bool,
}

// === impl Teller ===

impl Teller {
    fn say(self, text: &str, event: &serde_json::Value) -> anyhow::Result<()> {
        let line = match self.format {
            Format::Json => event.to_string(),
            Format::Table => text.to_owned(),
        };
        if self.to_stderr {
            tell!("{line}");
            return Ok(());
        }
        Ok(output::print(&format!("{line}\n"))?)
    }

    fn listening(self, gateway: &Gateway) -> anyhow::Result<()> {
        let addr = gateway.addr();
        self.say(&format!("listening on {addr}"), &json!({ "listening": addr }))
    }

    fn tell(self, before: &Status, now: &Status) -> anyhow::Result<()> {
        if before.version != now.version {
            let version = now.version;
            self.say(&format!("enforcing version {version}"), &json!({ "enforcing": version }))?;
            if !now.protected {
                tell!(
                    "warning: no policy is for this port: everything passes; give policies the application's port, or name theirs with --port"
                );
            }
        }
        for problem in now.problems.iter().filter(|problem| !before.problems.contains(problem)) {
            tell!("warning: {problem}");
        }
        match &now.error {
            Some(error) if before.error.as_ref() != Some(error) => tell!("warning: {error}"),
            Some(_) | None => {}
        }
        if now.records_lost > before.records_lost {
            tell!("warning: {} access records lost", now.records_lost - before.records_lost);
        }
        if now.disagreements > before.disagreements {
            tell!(
                "alarm: {} requests were read in two ways, and refused: please report this",
                now.disagreements - before.disagreements
            );
        }
        Ok(())
    }
}
