//! Loads every program of the datapath object and prints `name instructions stack`, as the verifier counted.
//!
//! Stack is the largest frame of the program's functions, in bytes. `cargo xtask budget` compares the lines with
//! bpf/budget.toml. With the argument `test` it loads the test programs instead. Exit status 3: this user may not load
//! programs.
//!
//! **Invariant:** nothing is attached or pinned; the programs are gone when the process ends.

use std::process::ExitCode;
use std::sync::Mutex;

use libbpf_rs::{ObjectBuilder, PrintLevel, set_print};

fn main() -> ExitCode {
    set_print(Some((PrintLevel::Debug, keep)));
    let test = std::env::args().nth(1).is_some_and(|arg| arg == "test");
    let object = if test { portcullis_bpf::TEST_OBJECT } else { portcullis_bpf::OBJECT };
    let loaded = ObjectBuilder::default().open_memory(object).and_then(|mut object| {
        for mut program in object.progs_mut() {
            program.set_log_level(LOG_STATS);
        }
        object.load()
    });
    let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
    if let Err(error) = loaded {
        let from = log.find("BPF program load failed").unwrap_or(0);
        eprint!("{}", last_lines(&log[from..], 40));
        eprintln!("loading the programs: {error}");
        let refused = error.kind() == libbpf_rs::ErrorKind::PermissionDenied;
        // A failed verification is reported as EACCES, after a log; a refusal comes without one.
        return ExitCode::from(if refused && !log.contains("processed ") { 3 } else { 1 });
    }
    for (name, stats) in
        log.split("prog '").skip(1).filter_map(|part| part.split_once("': -- BEGIN PROG LOAD LOG --"))
    {
        let insns = after(stats, "processed ").and_then(|n| n.parse::<u64>().ok());
        // One number a function, joined by `+`. Which of them call each other is not said: the largest frame it is.
        let frames = after(stats, "stack depth ").unwrap_or_default();
        let stack = frames.split('+').flat_map(str::parse::<u64>).max().unwrap_or(0);
        if let Some(insns) = insns {
            println!("{name} {insns} {stack}");
        }
    }
    ExitCode::SUCCESS
}

/// Statistics only (BPF_LOG_STATS).
const LOG_STATS: u32 = 4;

static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
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
