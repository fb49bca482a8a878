//! `cargo xtask fuzz`: libFuzzer over both sides of each parser (crate `portcullis-fuzz`), one target after the other.
//!
//! The C is built with the address sanitizer and coverage, the model with coverage; no nightly toolchain is needed. What
//! is found stays in target/portcullis/fuzz/; `--keep` takes the smallest inputs that reach everything that was reached
//! into fuzz/corpus/, which `cargo test -p portcullis-fuzz` replays.
//!
//! **Invariant:** a difference between the sides ends the task with 1, and the input's file is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Need};
use crate::sh::{self, step};
use crate::{Exit, Usage};

/// Name, bytes of the longest input, and dictionary.
const TARGETS: &[(&str, usize, &[&str])] = &[
    ("chunk", 600, &["\\x0d\\x0a", "0\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a", ";a=\\x22b\\x22", "ffffffffffff"]),
    ("claims", 1500, &CLAIMS),
    ("head", 700, &HEAD),
    ("host", 300, &["[::1]", ":80", "[", "]", "..", "xn--"]),
    ("jwt", 1200, &["eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.", "=", ".", "-_"]),
    (
        "path",
        300,
        &["/../", "/./", "//", "%2e", "%2F", "%25", "%c3%a9", "%f0%9f%98%80", "%ed%a0%80", "?", ";"],
    ),
];
const CLAIMS: [&str; 24] = [
    "{\\x22alg\\x22:\\x22ES256\\x22,\\x22kid\\x22:\\x22k\\x22}",
    "\\x22iss\\x22:\\x22https://i.example\\x22,\\x22aud\\x22:\\x22api\\x22,\\x22exp\\x22:1800000001",
    "\\x22typ\\x22:\\x22JWT\\x22",
    "at+jwt",
    "\\x22crit\\x22",
    "\\x22b64\\x22",
    "\\x22cnf\\x22",
    "\\x22aud\\x22:[",
    "\\x22nbf\\x22:",
    "\\x22iat\\x22:",
    "\\x22auth_time\\x22:",
    "\\x22mfa_verified\\x22:true",
    "\\x22roles\\x22:[\\x22admin\\x22]",
    "\\x22permissions\\x22:[",
    "\\x22groups\\x22:[",
    "\\x22org_id\\x22:\\x22acme\\x22",
    "\\x22sub\\x22:",
    "\\x22email\\x22:",
    "\\x22jti\\x22:",
    "\\x22sid\\x22:",
    "\\\\u00e9",
    "\\\\ud83d\\\\ude00",
    "-1.5e+7",
    "[{}]",
];
const HEAD: [&str; 18] = [
    "\\x0d\\x0a",
    "\\x0d\\x0a\\x0d\\x0a",
    " HTTP/1.1\\x0d\\x0a",
    " HTTP/1.0\\x0d\\x0a",
    "GET /",
    "POST /",
    "PRI * HTTP/2.0",
    "http://",
    "Host: h",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Authorization: Bearer ",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "\\x0d\\x0a ",
    ": ",
    "\\x00",
];
/// First inputs of a corpus that does not exist yet.
const FIRST: &[(&str, &str)] = &[
    ("chunk", "\u{5}5;a=b\r\nhello\r\n1B\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n0\r\nTrailer: t\r\n\r\n"),
    (
        "claims",
        "{\"alg\":\"ES256\",\"kid\":\"k\"}\n{\"iss\":\"https://i.example\",\"aud\":[\"api\"],\"exp\":1800000001,\
         \"roles\":[\"admin\"]}",
    ),
    (
        "head",
        "POST http://h:80/a?b HTTP/1.1\r\nHost: h:80\r\nAuthorization: Bearer t\r\nContent-Length: 5\r\n\r\n",
    ),
    ("host", "Example.com.:8080"),
    ("jwt", "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30.AAAA"),
    ("path", "a/%41/%c3%a9?b"),
];
const SECONDS: u64 = 60;
/// Inputs of one target that are kept, and bytes of each at most: the whole stays small.
const KEPT_MAX: usize = 150;
const KEPT_BYTES_MAX: usize = 45_000;

/// Runs the targets that `args` name, or all.
pub fn fuzz(args: &[String]) -> Result<()> {
    let (mut names, mut seconds, mut keep) = (Vec::new(), SECONDS, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let text = args.next().map(String::as_str).unwrap_or_default();
                seconds = text.parse().map_err(|_| Usage("--seconds takes a number".to_owned()))?;
            }
            "--keep" => keep = true,
            name if TARGETS.iter().any(|(known, ..)| *known == name) => names.push(name),
            other => {
                let known: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
                return Err(Usage(format!("no target `{other}`; there are: {}", known.join(", "))).into());
            }
        }
    }
    setup::ensure(&[Need::Build, Need::Fuzz])?;
    let fuzzer = build()?;
    let mut different = Vec::new();
    for (name, length, words) in TARGETS.iter().filter(|(name, ..)| names.is_empty() || names.contains(name))
    {
        let target = Target::new(&fuzzer, name, *length, words)?;
        if !target.search(seconds)? {
            different.push(*name);
        } else if keep {
            target.keep()?;
        }
    }
    match different.as_slice() {
        [] => Ok(()),
        names => Err(Exit(1, format!("the sides differ: {}", names.join(", "))).into()),
    }
}

/// One target's files.
struct Target<'a> {
    fuzzer: &'a Path,
    name: &'a str,
    length: usize,
    /// Whatever was found.
    corpus: PathBuf,
    /// What is kept in the repository.
    kept: PathBuf,
    words: PathBuf,
}

// === impl Target ===

impl<'a> Target<'a> {
    fn new(fuzzer: &'a Path, name: &'a str, length: usize, words: &[&str]) -> Result<Target<'a>> {
        let dir = sh::results().join("fuzz");
        let (corpus, kept) = (dir.join(name), sh::root().join("fuzz/corpus").join(name));
        for dir in [&corpus, &kept] {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let first = FIRST.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text);
        fs::write(corpus.join("first"), first).context("writing the first input")?;
        let text: String = words.iter().map(|word| format!("\"{word}\"\n")).collect();
        let words = dir.join(format!("{name}.dict"));
        fs::write(&words, text).with_context(|| format!("writing {}", words.display()))?;
        Ok(Target { fuzzer, name, length, corpus, kept, words })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.fuzzer);
        command.env("PORTCULLIS_FUZZ_TARGET", self.name).arg(format!("-max_len={}", self.length));
        command.current_dir(sh::results());
        command
    }

    /// Whether no difference was found.
    fn search(&self, seconds: u64) -> Result<bool> {
        let step = step(&format!("fuzz {} for {seconds} s", self.name));
        let mut command = self.command();
        command.args([&self.corpus, &self.kept]).args([
            format!("-dict={}", self.words.display()),
            format!("-max_total_time={seconds}"),
            format!("-artifact_prefix={}/fuzz/{}-", sh::results().display(), self.name),
        ]);
        command.args([
            "-timeout=20",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
            "-reload=0",
            "-verbosity=1",
        ]);
        let status = command.status().context("starting the fuzzer")?;
        step.done();
        Ok(status.success())
    }

    /// Replaces what is kept by the smallest inputs that reach as much.
    fn keep(&self) -> Result<()> {
        let step = step(&format!("choosing what to keep of {}", self.name));
        let chosen = self.corpus.with_extension("chosen");
        let _ = fs::remove_dir_all(&chosen);
        fs::create_dir_all(&chosen).with_context(|| format!("making {}", chosen.display()))?;
        let mut command = self.command();
        command.arg("-set_cover_merge=1").args([&chosen, &self.corpus, &self.kept]);
        step.run_quiet(&mut command, "run the target without --keep first")?;
        let mut inputs = Vec::new();
        for entry in fs::read_dir(&chosen).context("reading what was chosen")? {
            let path = entry?.path();
            inputs.push((fs::metadata(&path)?.len() as usize, path));
        }
        inputs.sort();
        let _ = fs::remove_dir_all(&self.kept);
        fs::create_dir_all(&self.kept).with_context(|| format!("making {}", self.kept.display()))?;
        let mut bytes = 0;
        // Of too many, some of every size: the small ones are the edges, the large ones reach deep.
        let count = inputs.len().min(KEPT_MAX);
        for (size, path) in (0..count).filter_map(|at| inputs.get(at * inputs.len() / count)) {
            bytes += size;
            if bytes > KEPT_BYTES_MAX {
                break;
            }
            let name = path.file_name().context("an input has a name")?;
            fs::copy(path, self.kept.join(name)).with_context(|| format!("copying {}", path.display()))?;
        }
        step.done();
        Ok(())
    }
}

/// Builds both sides with coverage, and links them with libFuzzer.
fn build() -> Result<PathBuf> {
    let step = step("building the fuzzer");
    let mut cargo =
        sh::cargo(["rustc", "--package", "portcullis-fuzz", "--lib", "--crate-type", "staticlib"]);
    cargo.args(["--features", "libfuzzer"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", sh::root().join("fuzz/coverage-rustc.sh"));
    cargo.env("PORTCULLIS_HOST_CFLAGS", "-g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address");
    step.run(&mut cargo, "read the compiler's message above; `cargo xtask setup` checks the machine")?;
    let library = sh::target().join("debug/libportcullis_fuzz.a");
    if !library.is_file() {
        bail!("{} was not built", library.display());
    }
    let fuzzer = sh::results().join("fuzz/fuzzer");
    fs::create_dir_all(sh::results().join("fuzz")).context("making the directory of the fuzzer")?;
    let mut clang = Command::new(std::env::var("PORTCULLIS_CLANG").unwrap_or_else(|_| "clang-19".to_owned()));
    clang.args(["-fsanitize=fuzzer,address", "-o"]).arg(&fuzzer).arg(&library).args(["-lstdc++", "-lm"]);
    step.run(&mut clang, "the runtimes of clang 19 are in the package libclang-rt-19-dev")?;
    step.done();
    Ok(fuzzer)
}
