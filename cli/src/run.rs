//! `portcullis run`: scenarios on engines.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use portcullis_scenarios::{Commands, EngineKind, Progress, RunConfig, run_files};

use tokio::signal::unix::{SignalKind, signal};

use crate::Exit;
use crate::output::{self, Format};

/// Run scenarios: real servers, real requests, expectations
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis run scenarios/
  portcullis run scenarios/monitor_vs_enforce.yaml --engine model
  portcullis run scenarios/ --report target/portcullis --format json | jq .summary

Exit status: 0 all expectations hold, 1 one failed, 2 bad usage, bad file or missing privilege. With `--engine all` an
engine that this machine does not permit is reported as not run; named, it is an error.")]
pub struct Args {
    /// Scenario files, and directories of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Engine to run on; can be given again
    #[arg(long, value_name = "ENGINE", default_value = "all")]
    engine: Vec<Choice>,
    /// Write report.json, report.html and junit.xml into this directory
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Engines that can be chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Choice {
    /// The BPF programs
    Kernel,
    /// The reverse proxy for hosts without BPF
    Proxy,
    /// The decision code, on the bytes of real connections in user space
    Model,
    /// Every engine that this version has
    All,
}

pub fn run(args: Args) -> Exit {
    let Args { paths, engine, report, format } = args;
    let mut by_name = Vec::new();
    let mut engines = Vec::new();
    for choice in engine {
        let kind = match choice {
            Choice::Kernel => EngineKind::Kernel,
            Choice::Proxy => EngineKind::Proxy,
            Choice::Model => EngineKind::Model,
            Choice::All => {
                engines.extend(EngineKind::ALL);
                continue;
            }
        };
        by_name.push(kind);
        engines.push(kind);
    }
    engines.sort_unstable();
    engines.dedup();
    let config = RunConfig { paths, engines, commands: commands()?, progress: Progress::for_stderr() };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let done = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
        tokio::select! {
            done = run_files(config) => Ok(done),
            // Dropping the run removes what it put into the kernel.
            _ = terminate.recv() => bail!("ended by a signal"),
            _ = tokio::signal::ctrl_c() => bail!("ended by a signal"),
        }
    })?;
    let done = match done {
        Ok(done) => done,
        Err(problems) => return Ok(output::refuse(&problems)),
    };
    if let Some(dir) = &report {
        done.write(dir).context("writing the report")?;
    }
    match format {
        Format::Json => output::print(&done.to_json()?)?,
        Format::Table => {
            let mut text = done.to_table(None, output::colours());
            if let Some(dir) = &report {
                text.push_str(&format!("report: {}\n", dir.join("report.html").display()));
            }
            output::print(&text)?;
        }
    }
    Ok(done.exit_code(&by_name))
}

/// Scenarios start this program again, as the application, the agent and the proxy.
pub fn commands() -> anyhow::Result<Commands> {
    let this = std::env::current_exe().context("finding this program")?;
    let with = |word: &str| vec![this.clone().into_os_string(), OsString::from(word)];
    Ok(Commands { app: with("app"), agent: with("agent"), proxy: with("proxy"), ..Commands::default() })
}
