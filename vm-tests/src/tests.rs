//! The test programs: libtest binaries, whose tests run one by one, each in a process of its own.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::settings::Settings;

const DIR: &str = "/tests";
/// Loads every kernel program and prints what the verifier counted.
const STATS: &str = "/verifier_stats";
/// What every kernel of the list has: a test that skips itself for want of one of these has failed.
const REQUIRED: &[&str] =
    &["root", "bpf", "bpffs", "bpf-lsm", "cgroup2", "netns", "mptcp", "io-uring", "set-clock", "two-cpus"];
const SKIPS: &str = "/tmp/skips.txt";
/// Emulated guests are about ten times slower than the host, on which a test may take a minute.
const TEST_MAX: Duration = Duration::from_secs(300);
/// Output of a failed test that is shown, bytes.
const OUTPUT_MAX: usize = 6000;

/// Runs everything, prints a line for each test, then the skips.
pub fn run_all() -> Result<()> {
    fs::write(SKIPS, "").with_context(|| format!("making {SKIPS}"))?;
    load_all()?;
    if !Path::new(DIR).is_dir() {
        return Ok(());
    }
    let mut programs: Vec<PathBuf> = fs::read_dir(DIR)
        .with_context(|| format!("reading {DIR}"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<_>>()
        .with_context(|| format!("reading {DIR}"))?;
    programs.sort();
    if programs.is_empty() {
        bail!("no test program in {DIR}");
    }
    let settings = Settings::read()?;
    let mut none = true;
    for program in &programs {
        let ignored = tests_of(program, &["--ignored"])?;
        for test in tests_of(program, &[])?.iter().filter(|test| settings.wants(test)) {
            // By --exact it would end well without having run.
            if ignored.contains(test) {
                println!("PCVM ignored {} {test}", name_of(program));
                continue;
            }
            run(program, test, &settings)?;
            none = false;
        }
    }
    if none {
        bail!("no test's name contains {}", settings.tests.join(" or "));
    }
    for line in fs::read_to_string(SKIPS).with_context(|| format!("reading {SKIPS}"))?.lines() {
        println!("PCVM skipped {line}");
    }
    Ok(())
}

/// Loads the datapath: a line for each program, or a failure with the verifier's last words.
fn load_all() -> Result<()> {
    let start = Instant::now();
    let out = Command::new(STATS).output().with_context(|| format!("starting {STATS}"))?;
    String::from_utf8_lossy(&out.stdout).lines().for_each(|line| println!("PCVM stats {line}"));
    let outcome = if out.status.success() { "ok" } else { "failed" };
    println!("PCVM {outcome} {} load every-program", start.elapsed().as_millis());
    if !out.status.success() {
        show(&out.stderr);
    }
    Ok(())
}

fn name_of(program: &Path) -> Cow<'_, str> {
    program.file_name().unwrap_or_default().to_string_lossy()
}

fn tests_of(program: &Path, which: &[&str]) -> Result<Vec<String>> {
    let out = Command::new(program)
        .args(["--list", "--format", "terse"])
        .args(which)
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    if !out.status.success() {
        bail!(
            "{} --list ended with {}: {}",
            program.display(),
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.filter(|test| !native(test)).map(str::to_owned).collect())
}

/// Tests of the native build touch no kernel, and emulated they take most of the time.
fn native(test: &str) -> bool {
    test.split("::").any(|part| part.starts_with("native"))
}

fn run(program: &Path, test: &str, settings: &Settings) -> Result<()> {
    let start = Instant::now();
    let required = REQUIRED.iter().copied().chain(settings.require.iter().map(String::as_str));
    let mut child = Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("PATH", "/bin")
        .env("PORTCULLIS_SKIPS", SKIPS)
        .env("PORTCULLIS_REQUIRE", required.collect::<Vec<_>>().join(","))
        .envs(settings.env.iter().map(|(name, value)| (name, value)))
        .env("NEXTEST_TEST_NAME", test)
        .env("PORTCULLIS_MAY_SET_CLOCK", "1")
        // Of random tests, which take seconds on a real machine: an emulated one is some twenty times as slow.
        .env("PORTCULLIS_CASES", "1000")
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let ended = wait(&mut child, start)?;
    let outcome = match ended {
        Some(true) => "ok",
        Some(false) => "failed",
        None => "hung",
    };
    println!("PCVM {outcome} {} {} {test}", start.elapsed().as_millis(), name_of(program));
    if ended != Some(true) {
        // A process that the test left behind may hold the pipes open: its output is not waited for.
        thread::sleep(Duration::from_millis(200));
        for thread in [out, err] {
            if thread.is_finished() {
                show(&thread.join().unwrap_or_default());
            }
        }
    }
    Ok(())
}

/// Whether it succeeded; `None` when it had to be ended.
fn wait(child: &mut Child, start: Instant) -> Result<Option<bool>> {
    loop {
        if let Some(status) = child.try_wait().context("waiting for a test")? {
            return Ok(Some(status.success()));
        }
        if start.elapsed() > TEST_MAX {
            child.kill().context("ending a test that hung")?;
            child.wait().context("waiting for a test that was ended")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What could be read before an error is what there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn show(output: &[u8]) {
    let from = output.len().saturating_sub(OUTPUT_MAX);
    for line in String::from_utf8_lossy(&output[from..]).lines() {
        println!("    | {line}");
    }
}
