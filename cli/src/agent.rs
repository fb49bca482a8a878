//! `portcullis agent`: enforcement in the kernel, configured by a control plane.

mod notify;
pub mod settings;

use std::panic;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use portcullis_enforcer::agent::{Agent, AgentConfig, AgentError, Status};
use portcullis_enforcer::kernel::KernelError;
use portcullis_follower::tell;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::Exit;
use crate::output::{self, Format};

use notify::{Notify, watchdog};

/// Enforce a control plane's policies on this host
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Settings come from AUTHFI_API_URL, AUTHFI_TENANT, AUTHFI_AGENT_ID, AUTHFI_AGENT_TOKEN and AUTHFI_API_KEY, then from the
file of --config, then from flags; the later ones hold. Secrets have no flags: other users of the host could read them.
The file is TOML with the names of the flags: api_url, tenant, agent_id, agent_token, api_key, ca (an array),
insecure_http, identity, bundle_key, cgroup, pins, poll_ms, push, report_ms, cache, spool, spool_mib, key_age_max_s,
metrics; and with issuers that this host trusts besides those of the control plane, whose keys the agent fetches
itself (without jwks_uri, from where their OpenID metadata says):

  [[issuers]]
  issuer = \"https://id.example\"
  audiences = [\"api://orders\"]

Configurations are signed by the control plane. The key comes with the registration, or is asked for once, and is
kept in the identity file: from then on nothing that another key signed is put into force, over the network or from
the disk. After the control plane got another key on purpose, delete the identity file and register again, or name
the key with --bundle-key.

When the agent ends, in whatever way, the kernel goes on enforcing what it was given last. --detach ends that.

Examples:
  AUTHFI_API_URL=http://127.0.0.1:8787 AUTHFI_TENANT=acme AUTHFI_API_KEY=sesame portcullis agent
  portcullis agent --config /etc/portcullis/agent.toml
  portcullis agent --detach")]
pub struct Args {
    #[command(flatten)]
    flags: settings::Flags,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End the enforcement of an agent that runs no more, and do nothing else
    #[arg(long)]
    detach: bool,
    /// End with standard input, and end enforcement then. A line of it with a number moves the clock there: seconds
    /// relative to the machine's
    #[arg(long, hide = true)]
    until_input_ends: bool,
    /// The clock at the start, seconds relative to the machine's
    #[arg(long, hide = true, requires = "until_input_ends", allow_hyphen_values = true, default_value_t = 0)]
    clock_offset_s: i64,
    /// How events are printed: lines for people, or a JSON object a line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Where to go from here.
pub const WITHOUT_BPF: &str = "the kernel cannot enforce here (`portcullis doctor` says what is missing); without BPF, \
     run `portcullis proxy`: the same verdicts in a reverse proxy before the application";

/// How often the agent is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why the agent ends.
enum End {
    /// A signal: enforcement stays.
    Signal,
    /// Whoever started it is done: enforcement ends.
    Input,
}

pub fn agent(args: Args) -> Exit {
    let Args { flags, config, detach, until_input_ends, clock_offset_s, format } = args;
    let settings = match settings::read(flags, config.as_deref()) {
        Ok(settings) => settings,
        Err(problem) => return Ok(output::refuse(&[problem])),
    };
    if detach {
        let removed = portcullis_enforcer::kernel::Datapath::remove(&settings.pins()).context("detaching")?;
        output::print(if removed { "enforcement ended\n" } else { "nothing was attached\n" })?;
        return Ok(0);
    }
    let mut config: AgentConfig = settings.into_config()?;
    // Whoever ends enforcement by closing the input is a harness; a service's agent is told to end by signals.
    config.kernel.virtual_time = until_input_ends;
    config.kernel.clock_offset_ns = clock_offset_s.saturating_mul(1_000_000_000);
    end_with_any_thread();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let agent = Agent::start(config).map_err(|error| match error {
        error @ AgentError::Kernel(KernelError::NotPermitted(_) | KernelError::Load { .. }) => {
            anyhow::Error::new(error).context(WITHOUT_BPF)
        }
        error => anyhow::Error::new(error).context("starting the agent"),
    })?;
    let notify = Notify::from_env().context("reaching the service manager")?;
    // Whatever configuration there is is in force now.
    notify.tell("READY=1");
    let end = runtime.block_on(watch(&agent, format, until_input_ends, &notify))?;
    notify.tell("STOPPING=1");
    match end {
        End::Signal => agent.stop(),
        End::Input => agent.detach().context("detaching")?,
    }
    Ok(0)
}

/// From here on a panic of any thread ends the process: one that works in the background would be missed by nobody. The kernel
/// goes on enforcing, and the service manager starts the agent anew.
fn end_with_any_thread() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |about| {
        usual(about);
        process::abort();
    }));
}

/// Prints what changes until the agent is to end.
async fn watch(
    agent: &Agent,
    format: Format,
    until_input_ends: bool,
    notify: &Notify,
) -> anyhow::Result<End> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;
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
    let mut alive = watchdog().map(tokio::time::interval);
    let mut last = Status::default();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {
                let now = agent.status();
                tell(&last, &now, format)?;
                if summary(&last) != summary(&now) {
                    notify.tell(&format!("STATUS={}", summary(&now)));
                }
                last = now;
            }
            // A status was taken a moment ago: no thread of the agent holds it up.
            () = tick(&mut alive) => notify.tell("WATCHDOG=1"),
            _ = terminate.recv() => return Ok(End::Signal),
            _ = interrupt.recv() => return Ok(End::Signal),
            line = input.recv() => match line {
                None => return Ok(End::Input),
                Some(line) => move_clock(agent, &line)?,
            },
        }
    }
}

/// Waits for the next time; for ever, if there is none.
async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// In one line, how it is.
fn summary(status: &Status) -> String {
    let Status { generation, error, protection, .. } = status;
    let trouble = error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
    format!("{}, version {generation}{trouble}", protection.name())
}

/// What whoever started the agent says: how far the clock is to be moved. Repeated when it is done.
fn move_clock(agent: &Agent, line: &str) -> anyhow::Result<()> {
    let offset_s: i64 = line.trim().parse().context("a line of the input is no number of seconds")?;
    agent.set_clock_offset_s(offset_s).context("moving the clock")?;
    output::print(&format!("{}\n", json!({ "clock_offset_s": offset_s })))?;
    Ok(())
}

fn tell(before: &Status, now: &Status, format: Format) -> anyhow::Result<()> {
    if before.generation != now.generation {
        output::print(&match format {
            Format::Json => format!("{}\n", json!({ "enforcing": now.generation })),
            Format::Table => format!("enforcing version {}\n", now.generation),
        })?;
    }
    if before.protection != now.protection {
        output::print(&match format {
            Format::Json => format!("{}\n", json!({ "protection": now.protection.name() })),
            Format::Table => format!("this host is {}\n", now.protection.name()),
        })?;
    }
    for service in now.services.iter().filter(|service| !before.services.contains(service)) {
        if let Some(why) = &service.why {
            tell!("warning: port {} is not protected: {why}", service.listener.port);
        }
    }
    for problem in now.problems.iter().filter(|problem| !before.problems.contains(problem)) {
        tell!("warning: {problem}");
    }
    for what in now.detached.iter().filter(|what| !before.detached.contains(what)) {
        tell!("alarm: no longer enforced: {what}; start the agent anew, which puts it right");
    }
    match &now.error {
        Some(error) if before.error.as_ref() != Some(error) => tell!("warning: {error}"),
        Some(_) | None => {}
    }
    if now.connections_unseen > before.connections_unseen {
        tell!(
            "warning: {} connections are older than the monitoring of their port and are not seen before they end",
            now.connections_unseen
        );
    }
    let lost = |status: &Status| status.records_lost + status.records_lost_in_kernel;
    if lost(now) > lost(before) {
        tell!("warning: {} access records lost", lost(now) - lost(before));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const CHILD: &str = "PORTCULLIS_TEST_PANIC";

    /// In a process of its own.
    #[test]
    fn a_thread_that_panics_ends_the_agent() {
        if std::env::var_os(CHILD).is_some() {
            end_with_any_thread();
            drop(thread::spawn(|| panic!("as a fault of ours would")).join());
            process::exit(0);
        }
        let mut again = process::Command::new(std::env::current_exe().expect("own path"));
        again.args(["--exact", "agent::tests::a_thread_that_panics_ends_the_agent", "--nocapture"]);
        let ended = again.env(CHILD, "1").output().expect("started");
        assert!(ended.status.signal().is_some(), "{:?}", ended.status);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("as a fault of ours would"), "{said}");
    }
}
