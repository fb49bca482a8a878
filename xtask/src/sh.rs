//! Running commands: what is run is said, long silence is broken, failures name the step and the remedy.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Root of the repository.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    // cargo sets it at run time too, which is right when the clone was moved after the build.
    let xtask = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| xtask.to_owned(), PathBuf::from);
    xtask.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Where tasks and tests leave their results.
pub fn results() -> PathBuf {
    target().join("portcullis")
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this task, at the root, without the variables that `cargo run` added for this package.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    let stale = env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"));
    stale.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Finds a program on PATH or in an sbin directory, which the PATH of a user often lacks.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// Says what begins; the returned value says how long it took when it is [`Step::done`].
pub fn step(what: &str) -> Step {
    eprintln!("==> {what}");
    Step { what: what.to_owned(), start: Instant::now() }
}

/// A part of a task that is under way.
pub struct Step {
    what: String,
    start: Instant,
}

/// How a command that was watched ended.
pub struct Watched {
    pub status: ExitStatus,
    /// Standard output and error, by line, without colours.
    pub lines: Vec<String>,
    /// The bound for which it was ended, as a sentence.
    pub exceeded: Option<String>,
}

/// How long a command may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From one line to the next.
    pub silence: Duration,
    /// From its start to its end.
    pub total: Duration,
}

// === impl Bounds ===

impl Bounds {
    /// As long as it likes.
    pub const NONE: Bounds = Bounds { silence: Duration::MAX, total: Duration::MAX };
}

// === impl Step ===

impl Step {
    /// Ends the step with its time.
    pub fn done(self) {
        eprintln!("    {}: {:.1} s", self.what, self.start.elapsed().as_secs_f64());
    }

    /// Runs `command` with this terminal; an error names the step, the command and `remedy`.
    pub fn run(&self, command: &mut Command, remedy: &str) -> Result<()> {
        let status = command.status().with_context(|| self.cannot_start(command, remedy))?;
        if !status.success() {
            bail!("{}: `{}` ended with {status}; {remedy}", self.what, shown(command));
        }
        Ok(())
    }

    /// Runs `command` in silence, with a line now and then while it takes long; its output is shown when it fails.
    pub fn run_quiet(&self, command: &mut Command, remedy: &str) -> Result<()> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (what, start) = (self.what.clone(), self.start);
        let beat = thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(10)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("    {what} … {} s", start.elapsed().as_secs());
            }
        });
        let out = command.stdin(Stdio::null()).output();
        drop(stop);
        let _ = beat.join();
        let out = out.with_context(|| self.cannot_start(command, remedy))?;
        if !out.status.success() {
            let text = [out.stdout, out.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let tail: Vec<&str> = text.lines().rev().take(12).collect();
            tail.iter().rev().for_each(|line| eprintln!("    | {line}"));
            bail!("{}: `{}` ended with {}; {remedy}", self.what, shown(command), out.status);
        }
        Ok(())
    }

    /// Runs `command`, shows its output as it comes and keeps it.
    pub fn run_watched(&self, command: &mut Command, remedy: &str) -> Result<Watched> {
        self.run_bounded(command, Bounds::NONE, remedy)
    }

    /// The same, with an end for a command that exceeds a bound; what it had said by then is kept.
    pub fn run_bounded(&self, command: &mut Command, bounds: Bounds, remedy: &str) -> Result<Watched> {
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.cannot_start(command, remedy))?;
        let (said, hear) = mpsc::channel();
        let (to_err, err) = (said.clone(), child.stderr.take());
        let (out, to_out) = (child.stdout.take(), said);
        // Not joined: what a command that was ended has started may hold the pipes open.
        thread::spawn(move || err.map(|e| copy(e, io::stderr(), |line| drop(to_err.send((true, line))))));
        thread::spawn(move || out.map(|o| copy(o, io::stdout(), |line| drop(to_out.send((false, line))))));
        let (mut lines, mut errors) = (Vec::new(), Vec::new());
        let mut exceeded = None;
        loop {
            let left = bounds.total.saturating_sub(start.elapsed());
            match hear.recv_timeout(left.min(bounds.silence)) {
                Ok((true, line)) => errors.push(line),
                Ok((false, line)) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    exceeded = Some(if left <= bounds.silence {
                        format!("it ran for {} s", bounds.total.as_secs())
                    } else {
                        format!("it said nothing for {} s", bounds.silence.as_secs())
                    });
                    child.kill().with_context(|| format!("{}: ending the command", self.what))?;
                    break;
                }
            }
        }
        lines.extend(errors);
        let status = child.wait().with_context(|| format!("{}: waiting for the command", self.what))?;
        Ok(Watched { status, lines, exceeded })
    }

    fn cannot_start(&self, command: &Command, remedy: &str) -> String {
        format!("{}: cannot start `{}`; {remedy}", self.what, shown(command))
    }
}

/// Whether colours and rewritten lines make sense.
pub fn colours() -> bool {
    io::stderr().is_terminal() && env::var_os("CI").is_none() && env::var_os("NO_COLOR").is_none()
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.get_args().fold(program, |text, arg| text + " " + &arg.to_string_lossy())
}

fn copy(from: impl io::Read, mut to: impl Write, heard: impl Fn(String)) {
    let mut from = BufReader::new(from);
    let mut raw = Vec::new();
    while from.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
        // A closed terminal is no reason to stop the work.
        let _ = to.write_all(&raw).and_then(|()| to.flush());
        heard(plain(String::from_utf8_lossy(&raw).trim_end()));
        raw.clear();
    }
}

/// Removes colour sequences (ESC `[` … letter).
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(plain("\u{1b}[32;1m     Summary\u{1b}[0m [   1.0s]"), "     Summary [   1.0s]");
        assert_eq!(plain("plain"), "plain");
    }

    #[test]
    fn commands_are_shown_as_typed() {
        assert_eq!(shown(Command::new("/usr/bin/apt-get").args(["install", "-y"])), "apt-get install -y");
    }

    #[test]
    fn a_failing_command_names_step_and_remedy() {
        let error = step("proving").run(&mut Command::new("false"), "try again").expect_err("false fails");
        let text = format!("{error:#}");
        assert!(text.starts_with("proving: `false` ended with") && text.ends_with("try again"), "{text}");
    }

    #[test]
    fn output_of_a_command_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; echo wrong >&2; exit 3"]);
        let watched = step("watching").run_watched(&mut command, "none").expect("it starts");
        assert_eq!((watched.lines, watched.exceeded), (vec!["said".to_owned(), "wrong".to_owned()], None));
        assert_eq!(watched.status.code(), Some(3));
    }

    #[test]
    fn a_silent_command_is_ended_and_what_it_said_is_kept() {
        let mut command = Command::new("sh");
        // Its child holds the pipes open after it was ended.
        command.args(["-c", "echo said; sleep 60; echo more"]);
        let bounds = Bounds { silence: Duration::from_secs(2), total: Duration::MAX };
        let watched = step("watching").run_bounded(&mut command, bounds, "none").expect("it starts");
        assert_eq!(watched.lines, ["said"]);
        assert_eq!(watched.exceeded.as_deref(), Some("it said nothing for 2 s"));
        assert!(!watched.status.success());
    }

    #[test]
    fn a_command_that_goes_on_talking_is_ended_too() {
        let mut command = Command::new("sh");
        command.args(["-c", "while echo said; do sleep 0.05; done"]);
        let bounds = Bounds { silence: Duration::from_secs(60), total: Duration::from_secs(1) };
        let watched = step("watching").run_bounded(&mut command, bounds, "none").expect("it starts");
        assert_eq!(watched.exceeded.as_deref(), Some("it ran for 1 s"));
        assert!(watched.lines.iter().all(|line| line == "said"));
    }
}
