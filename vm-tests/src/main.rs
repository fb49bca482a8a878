//! PID 1 of a test VM. Prepares the guest (mounts, modules, loopback), runs every test of the test programs in
//! `/tests`, each in a process of its own, writes one line for each to the console, and powers off.
//!
//! The lines are for `cargo xtask vm-test`, which knows them by their prefix `PCVM`:
//! `PCVM kernel RELEASE`, `PCVM stats PROGRAM INSNS STACK`, `PCVM ok|failed|hung MS PROGRAM TEST`, `PCVM skipped TEXT`, `PCVM end`.
//!
//! **Invariant:** a guest that does not reach `PCVM end` has failed, whatever it printed before.

mod guest;
mod settings;
mod tests;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("this program is the first process of a test VM; `cargo xtask vm-test` boots one");
        return ExitCode::from(2);
    }
    match guest::prepare().and_then(|()| tests::run_all()) {
        Ok(()) => println!("PCVM end"),
        Err(error) => println!("PCVM broken {error:#}"),
    }
    guest::power_off()
}
