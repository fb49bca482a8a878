//! Repository tasks, one file each: set-up, run, test, check, fmt, tidy, budget, conformance, fuzz, vm-test, bench.
//!
//! **Invariant:** depends on no crate of the workspace, so it builds in seconds and works while they do not compile.
//! **Invariant:** exit status 0 means that the task did its job; 1 that it found something wrong; 2 that it could not
//! start (bad usage, or set-up that it may not do itself).

use std::process::ExitCode;
use std::{env, fmt};

mod bench;
mod budget;
mod check;
mod conformance;
mod fuzz;
mod run;
mod setup;
mod sh;
mod test;
mod tidy;
mod toml;
mod vm_test;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let task = args.next().unwrap_or_else(|| "--help".to_owned());
    let rest: Vec<String> = args.collect();
    if rest.iter().any(|a| a == "--help" || a == "-h") || matches!(task.as_str(), "--help" | "-h" | "help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let result = match task.as_str() {
        "run" => run::run(&rest),
        "test" => test::test(&rest),
        "check" => none(&rest).and_then(|()| check::check()),
        "fmt" => none(&rest).and_then(|()| check::fmt()),
        "tidy" => none(&rest).and_then(|()| tidy::tidy()),
        "budget" => budget::budget(&rest),
        "fuzz" => fuzz::fuzz(&rest),
        "bench" => bench::bench(&rest),
        "conformance" => conformance::conformance(&rest),
        "vm-test" => vm_test::vm_test(&rest),
        "setup" => setup::setup(&rest),
        _ => Err(Usage(format!("there is no task `{task}`")).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cargo xtask {task}: {error:#}");
            match (error.downcast_ref::<Exit>(), error.downcast_ref::<Usage>()) {
                (Some(Exit(code, _)), _) => ExitCode::from(*code),
                (None, Some(_)) => {
                    eprintln!("\n{HELP}");
                    ExitCode::from(2)
                }
                (None, None) => ExitCode::FAILURE,
            }
        }
    }
}

fn none(args: &[String]) -> anyhow::Result<()> {
    match args.first() {
        None => Ok(()),
        Some(arg) => Err(Usage(format!("unexpected argument `{arg}`")).into()),
    }
}

/// The command line is wrong.
#[derive(Debug)]
struct Usage(String);

/// Ends with this exit status.
#[derive(Debug)]
struct Exit(u8, String);

// === impl Usage ===

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

// === impl Exit ===

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Exit {}

const HELP: &str = "\
Tasks of this repository.

Usage: cargo xtask <TASK> [ARGS]

  run [ARG…]      all set-up, then every scenario in scenarios/ on every engine; a table here, reports in
                  target/portcullis/. Arguments go to `portcullis run` in place of `scenarios/ --engine all`
  test [ARG…]     all set-up, then every test that this machine can run; counts, and names what it skipped.
                  Arguments go to the test runner, for example `-p portcullis-policy` or a part of a test's name
  check           rustfmt, clippy, rustdoc, clang-format, tidy, cargo-deny where it is installed: all without changing a
                  file
  fmt             formats Rust and C
  tidy            layout rules: edges between crates, file heads and sizes, limits, verifier notes
  budget          loads every kernel program and compares the instructions that the verifier walked with
                  bpf/budget.toml; growth over 5 % fails. --update rewrites the rows of this kernel
  bench [NAME]    benchmarks (kernel, offboarding), built optimised; figures here and in
                  target/portcullis/bench/NAME.json.
                  --scale F takes F times as many samples
  conformance     the mock control plane under other people's suites from PyPI: schemathesis with its OpenAPI document,
                  and scim2-tester. Arguments go to `schemathesis run`, for example --max-examples 200
  fuzz [NAME]     searches inputs on which the C and the model differ (chunk, claims, head, host, jwt, path), for 60 s
                  each; --seconds N for another time, --keep renews fuzz/corpus/ by what was reached
  vm-test         boots stock kernels in QEMU and runs the kernel-facing tests inside each; a table at the end.
                  --list shows the kernels of vm-tests/kernels.toml, --kernel V picks one (again for more), --all takes
                  every one, --program NAME runs only test programs whose name contains it (`none`: only loads the
                  datapath), --test NAME only tests whose name contains it (again for more), --update-budget
                  rewrites the kernels' rows of bpf/budget.toml
  setup           the set-up of run and test alone. --delivery adds servers (node, Go, Java, Python, Apache httpd,
                  gunicorn) without which some tests of delivery are skipped, here and in the guests of vm-test

Set-up installs what is missing with apt-get when run as root; otherwise it prints the command and exits with 2.

Environment:
  PORTCULLIS_REQUIRE=all    a test that would be skipped fails instead (or names by comma: bpf,netns)
  PORTCULLIS_SEED=N         repeats the random tests of a run that printed this seed
  PORTCULLIS_CLANG=clang-N  another clang for the kernel programs
  CI=true                   no colours, no progress that rewrites lines

Examples:
  cargo xtask run
  cargo xtask test -p portcullis-testkit
  cargo xtask vm-test --kernel 6.1
  cargo xtask vm-test --kernel 6.1 --program live --test delivery::
  cargo xtask run scenarios/monitor_vs_enforce.yaml --engine model";
