//! The `portcullis` command: arguments, and which crate does the work.
//!
//! **Invariant:** exit status 0 means that all is as it should be, 1 that something was found, 2 that the work could
//! not be done: bad usage, a bad file, a missing privilege.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

mod agent;
mod app;
mod check;
mod control_plane;
mod doctor;
mod explain;
mod following;
mod offboarding;
mod output;
mod policies;
mod proxy;
mod request;
mod run;
mod suggest;
mod validate;

/// Zero-trust access enforcement in the kernel: scenarios, policies, and the parts by themselves.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Explain(explain::Args),
    Validate(validate::Args),
    Agent(Box<agent::Args>),
    Proxy(Box<proxy::Args>),
    ControlPlane(control_plane::Args),
    Doctor(doctor::Args),
    Offboarding(offboarding::Args),
    Suggest(suggest::Args),
    Completions(Completions),
    #[command(hide = true)]
    App(app::Args),
}

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis completions bash >/etc/bash_completion.d/portcullis")]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// How a command ended: 0, 1 or 2.
type Exit = anyhow::Result<u8>;

const EXAMPLES: &str = "\
Examples:
  portcullis run scenarios/ --report target/portcullis
  portcullis check policy.yaml
  portcullis explain --policy policy.yaml GET /orders/7 --claims '{\"roles\":[\"reader\"]}'
  portcullis validate --policy new.yaml --baseline old.yaml --traffic traffic.jsonl
  portcullis doctor

Exit status: 0 all is as it should be, 1 something was found, 2 the work could not be done.";

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(args),
        Command::Explain(args) => explain::explain(args),
        Command::Validate(args) => validate::validate(args),
        Command::Agent(args) => agent::agent(*args),
        Command::Proxy(args) => proxy::proxy(*args),
        Command::ControlPlane(args) => control_plane::control_plane(args),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Suggest(args) => suggest::suggest(args),
        Command::Offboarding(args) => offboarding::offboarding(args),
        Command::Completions(args) => completions(&args),
        Command::App(args) => app::app(args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // Whoever reads our output may stop reading it, as `head` does.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn completions(args: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portcullis", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
