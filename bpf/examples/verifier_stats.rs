//! Loads every program of the datapath object and prints `name instructions stack`, as the verifier counted.
//!
//! Stack is the largest frame of the program's functions, in bytes. `cargo xtask budget` compares the lines with
//! bpf/budget.toml. With the argument `test` it loads the test programs instead. Programs of the BPF LSM that may not be loaded
//! here are left out, with a line `name refused`. Exit status 3: this user may not load programs.
//!
//! **Invariant:** nothing is attached or pinned; the programs are gone when the process ends.

use std::process::ExitCode;
use std::sync::Mutex;

use libbpf_rs::{ObjectBuilder, PrintLevel, ProgramType, set_print};

fn main() -> ExitCode {
    set_print(Some((PrintLevel::Debug, keep)));
    let test = std::env::args().nth(1).is_some_and(|arg| arg == "test");
    let object = if test { portcullis_bpf::TEST_OBJECT } else { portcullis_bpf::OBJECT };
    let (mut loaded, mut log) = load(object, true);
    // In the words of older libraries and of newer ones.
    if loaded.is_err() && ["Operation not permitted", "-EPERM"].iter().any(|why| failure(&log).contains(why))
    {
        (loaded, log) = load(object, false);
    }
    if let Err(error) = loaded {
        eprint!("{}", last_lines(failure(&log), 40));
        eprintln!("loading the programs: {error}");
        let refused = error.kind() == libbpf_rs::ErrorKind::PermissionDenied;
        // A failed verification is reported as EACCES, after a log; a refusal comes without one.
        return ExitCode::from(if refused && !log.contains("processed ") { 3 } else { 1 });
    }
    loaded.unwrap_or_default().iter().for_each(|name| println!("{name} refused"));
    for (name, stats) in
        log.split("prog '").skip(1).filter_map(|part| part.split_once("': -- BEGIN PROG LOAD LOG --"))
    {
        let Some(insns) = after(stats, "processed ").and_then(|n| n.parse::<u64>().ok()) else { continue };
        let Some(stack) = largest_frame(stats) else {
            eprintln!(
                "{name}: the verifier's log says nothing of its stack in a form that is known:\n{stats}"
            );
            return ExitCode::FAILURE;
        };
        println!("{name} {insns} {stack}");
    }
    ExitCode::SUCCESS
}

/// Statistics only (BPF_LOG_STATS).
const LOG_STATS: u32 = 4;

/// Loads the object, with or without its programs of the BPF LSM; which were left out, and what the library said.
fn load(object: &[u8], lsm: bool) -> (libbpf_rs::Result<Vec<String>>, String) {
    drop(LOG.lock().map(|mut log| log.clear()));
    let loaded = ObjectBuilder::default().open_memory(object).and_then(|mut object| {
        let mut out = Vec::new();
        for mut program in object.progs_mut() {
            program.set_log_level(LOG_STATS);
            if !lsm && program.prog_type() == ProgramType::Lsm {
                program.set_autoload(false);
                out.push(program.name().to_string_lossy().into_owned());
            }
        }
        object.load().map(|_| out)
    });
    (loaded, LOG.lock().map(|log| log.clone()).unwrap_or_default())
}

/// What the library said of the program that did not load.
fn failure(log: &str) -> &str {
    log.find("BPF program load failed").map_or(log, |from| &log[from..])
}

static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
}

/// Bytes of the largest frame; which functions call each other is not said before Linux 7. There it is one number a function,
/// joined by `+`; later a line each, `subprog 0 (name) main insns_self 1 insns_total 1 stack 8`, below their greatest sum.
fn largest_frame(stats: &str) -> Option<u64> {
    let frames = after(stats, "stack depth ")?;
    let joined = frames.split('+').map(|frame| frame.parse().ok()).collect::<Option<Vec<u64>>>();
    let each = || {
        let lines = stats.lines().filter(|line| line.starts_with("subprog "));
        lines.filter_map(|line| after(line, " stack ")?.parse().ok()).max()
    };
    joined.map_or_else(each, |frames| frames.into_iter().max())
}

fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(word)?;
    rest.split_whitespace().next()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(|l| format!("{l}\n")).collect()
}
