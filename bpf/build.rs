//! Compiles the kernel programs with clang, the same library natively, and turns limits.h and reason.h into Rust.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

const REMEDY: &str =
    "`cargo xtask run` and `cargo xtask test` install it, or: apt-get install clang-19 llvm-19 libbpf-dev";

/// More flags for the native build, for `cargo xtask fuzz`.
const HOST_CFLAGS: &str = "PORTCULLIS_HOST_CFLAGS";

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for dir in ["include", "lib", "progs", "tests", "host"] {
        println!("cargo::rerun-if-changed={}", root.join(dir).display());
    }
    println!("cargo::rerun-if-env-changed=PORTCULLIS_CLANG");
    println!("cargo::rerun-if-env-changed={HOST_CFLAGS}");
    let clang = env::var("PORTCULLIS_CLANG").unwrap_or_else(|_| "clang-19".into());

    object(&clang, &root.join("progs/portcullis.bpf.c"), &out.join("portcullis.bpf.o"))?;
    object(&clang, &root.join("tests/test.bpf.c"), &out.join("test.bpf.o"))?;
    if env::var_os("CARGO_FEATURE_HOST").is_some() {
        host(&clang, &root)?;
    }
    fs::write(out.join("limits.rs"), limits(&fs::read_to_string(root.join("include/limits.h"))?)?)?;
    fs::write(out.join("reasons.rs"), reasons(&fs::read_to_string(root.join("include/reason.h"))?)?)?;
    Ok(())
}

/// One BPF object. DWARF is stripped, BTF stays.
fn object(clang: &str, source: &Path, object: &Path) -> Result<()> {
    let arch_include = format!("/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    let status = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror"])
        .args(["-fno-stack-protector", "-I", &arch_include, "-c"])
        .arg(source)
        .arg("-o")
        .arg(object)
        .status()
        .with_context(|| format!("run {clang}: {REMEDY}"))?;
    ensure!(status.success(), "{clang} failed on {}", source.display());
    let strip = clang.replace("clang", "llvm-strip");
    let status = Command::new(&strip).arg("-g").arg(object).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!("{strip} failed on {}", object.display()),
        Err(error) => Err(error).with_context(|| format!("run {strip}: {REMEDY}")),
    }
}

/// The library, natively, in one translation unit.
fn host(clang: &str, root: &Path) -> Result<()> {
    let more = env::var(HOST_CFLAGS).unwrap_or_default();
    cc::Build::new()
        .compiler(clang)
        .flags(more.split_whitespace())
        .file(root.join("host/host.c"))
        .define("PC_HOST", None)
        .std("gnu11")
        .opt_level(2)
        .flag("-fno-strict-aliasing")
        .warnings_into_errors(true)
        .extra_warnings(true)
        .try_compile("portcullis_bpf_host")
        .context("compile bpf/host/host.c natively")
}

/// `#define PC_X number` lines become `pub const X: usize`.
fn limits(header: &str) -> Result<String> {
    let mut rust = String::new();
    let mut doc = String::new();
    for line in header.lines() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("/* ").and_then(|c| c.strip_suffix(" */")) {
            doc = comment.to_owned();
        }
        let Some(rest) = line.strip_prefix("#define PC_") else { continue };
        let Some((name, value)) = rest.split_once(' ') else { continue };
        let value: usize = value.trim().parse().with_context(|| format!("limits.h: {line}"))?;
        if doc.is_empty() {
            doc = format!("`PC_{name}` of limits.h.");
        }
        rust += &format!("/// {doc}\npub const {name}: usize = {value};\n");
        doc.clear();
    }
    ensure!(rust.lines().count() > 20, "limits.h: no definitions found");
    Ok(rust)
}

/// `PC_REASON(...)` rows become a table.
fn reasons(header: &str) -> Result<String> {
    let mut rows = Vec::new();
    for line in header.lines() {
        let Some(rest) = line.trim().strip_prefix("PC_REASON(") else { continue };
        let row = rest.trim_end_matches(['\\', ' ']).strip_suffix(')').context("reason.h: row")?;
        let mut parts = row.splitn(6, ", ");
        let mut next = || parts.next().with_context(|| format!("reason.h: short row {line}"));
        let (code, name, slug) = (next()?, next()?, next()?);
        let (status, error, text) = (next()?, next()?, next()?);
        rows.push(format!(
            "    ReasonRow {{ code: {code}, name: \"{name}\", slug: {slug}, status: {status}, error: {error}, text: {text} }},\n"
        ));
    }
    ensure!(rows.len() > 20, "reason.h: no rows found");
    Ok(format!(
        "/// Every row of reason.h, in order.\npub const REASONS: &[ReasonRow] = &[\n{}];\n",
        rows.concat()
    ))
}
