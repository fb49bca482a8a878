//! `portcullis offboarding`: how long it takes until a deactivated user is out.

use std::time::Duration;

use anyhow::Context as _;
use portcullis_scenarios::SyncWay;
use portcullis_scenarios::offboarding::{Measure, measure};
use serde_json::json;

use crate::Exit;
use crate::output::{self, Format};

/// Measure off-boarding: from the SCIM PATCH to the first denial in the kernel
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each run makes a user by SCIM, logs in, sends requests over one connection until the token is cached, deactivates the
user by SCIM, and sends on until the kernel denies. Everything runs on this machine. Needs what the kernel engine needs.

Examples:
  portcullis offboarding
  portcullis offboarding --no-push --poll-ms 2000 --runs 50

Exit status: 0 every user was denied in time, 2 one was not, or the kernel engine cannot run here.")]
pub struct Args {
    /// How many users
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How often the agent asks for changes
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    poll_ms: u64,
    /// The agent does not wait for changes, it only asks
    #[arg(long)]
    no_push: bool,
    /// Longest time for one user, besides the interval of the agent when it only asks
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    deadline_ms: u64,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub fn offboarding(args: Args) -> Exit {
    let Args { runs, poll_ms, no_push, deadline_ms, format } = args;
    let mut commands = crate::run::commands()?;
    commands.sync = SyncWay { poll: Duration::from_millis(poll_ms), push: !no_push };
    let deadline = Duration::from_millis(deadline_ms.saturating_add(if no_push { poll_ms } else { 0 }));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let mut times = runtime.block_on(measure(&Measure { runs, deadline, commands }))?;
    times.sort_unstable();
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile_ms(&times, percent));
    let way = if no_push { format!("asking every {poll_ms} ms") } else { "with push".to_owned() };
    match format {
        Format::Json => output::print_json(&json!({
            "runs": times.len(), "push": !no_push, "poll_ms": poll_ms,
            "p50_ms": p50, "p99_ms": p99, "max_ms": max,
        }))?,
        Format::Table => output::print(&format!(
            "off-boarding {way}, SCIM PATCH to first denial on an open connection, {} runs:\n\
             p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms\n",
            times.len()
        ))?,
    }
    Ok(0)
}

/// The smallest time that so many percent do not exceed; the times are sorted.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let of = |percent| percentile_ms(&times, percent);
        assert_eq!((of(50), of(99), of(100)), (100.0, 198.0, 200.0));
        assert_eq!(percentile_ms(&times[..1], 50), 1.0);
    }
}
