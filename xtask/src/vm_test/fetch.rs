//! Stock kernels from Debian's packages: downloaded through a private apt root and unpacked, never installed.
//!
//! **Invariant:** the mirror is the one that this system's apt uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::sh;

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Fetched {
    /// `uname -r`.
    pub(super) release: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// What the packages unpacked to; modules are below `lib/modules`.
    pub(super) root: PathBuf,
}

/// The newest kernel of the series; what an earlier run unpacked is used when the suite has nothing newer.
pub(super) fn fetch(kernel: &Kernel, dir: &Path) -> Result<Fetched> {
    let apt = Apt::new(&kernel.suite, dir)?;
    let package = apt.newest(&kernel.series)?;
    let root = dir.join("kernels").join(&package);
    let done = root.join("unpacked");
    if !done.exists() {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("emptying {}", root.display()))?;
        }
        apt.unpack(&apt.parts(&package)?, &root)?;
        fs::write(&done, "").with_context(|| format!("writing {}", done.display()))?;
    }
    found(&root)
}

/// A private apt root for one suite.
struct Apt {
    dir: PathBuf,
    config: PathBuf,
}

// === impl Apt ===

impl Apt {
    fn new(suite: &str, dir: &Path) -> Result<Apt> {
        let dir = dir.join(format!("apt-{suite}"));
        for sub in [
            "etc/apt/sources.list.d",
            "etc/apt/preferences.d",
            "etc/apt/apt.conf.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/apt/lists/partial",
            "var/lib/dpkg",
            "var/cache/apt/archives/partial",
            "var/log/apt",
        ] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("making {}/{sub}", dir.display()))?;
        }
        let uri = mirror(suite.ends_with("-security"))?;
        let write = |name: &str, text: String| {
            fs::write(dir.join(name), text).with_context(|| format!("writing {}/{name}", dir.display()))
        };
        write("var/lib/dpkg/status", String::new())?;
        write(
            "etc/apt/sources.list.d/suite.sources",
            format!(
                "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            ),
        )?;
        let root = dir.display();
        write(
            "apt.conf",
            format!(
                "Dir \"{root}\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\nAPT::Architecture \"amd64\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nAPT::Sandbox::User \"root\";\n"
            ),
        )?;
        let apt = Apt { config: dir.join("apt.conf"), dir };
        apt.run("apt-get", &["-q", "update"])?;
        Ok(apt)
    }

    /// Name of the newest package `linux-image-SERIES*-cloud-amd64`.
    fn newest(&self, series: &str) -> Result<String> {
        let prefix = format!("linux-image-{series}");
        let names = self.run("apt-cache", &["pkgnames", &prefix])?;
        let newest = names
            .lines()
            .filter(|name| name.starts_with(&prefix) && name.ends_with("-cloud-amd64"))
            .max_by_key(|name| numbers(name));
        newest.map(str::to_owned).with_context(|| {
            format!("the suite has no {prefix}*-cloud-amd64; suites rotate: correct vm-tests/kernels.toml")
        })
    }

    /// The packages that hold image and modules: since 7.0 they are not in the package of that name.
    fn parts(&self, package: &str) -> Result<Vec<String>> {
        let depends = self.run("apt-cache", &["depends", package])?;
        let parts: Vec<String> = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"))
            .map(str::to_owned)
            .collect();
        Ok(if parts.is_empty() { vec![package.to_owned()] } else { parts })
    }

    fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        if debs.exists() {
            fs::remove_dir_all(&debs).with_context(|| format!("emptying {}", debs.display()))?;
        }
        fs::create_dir_all(&debs).with_context(|| format!("making {}", debs.display()))?;
        fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        let mut args = vec!["-q", "download"];
        args.extend(packages.iter().map(String::as_str));
        self.run_in(&debs, "apt-get", &args)?;
        for deb in fs::read_dir(&debs).with_context(|| format!("reading {}", debs.display()))? {
            let deb = deb.with_context(|| format!("reading {}", debs.display()))?.path();
            output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(root))?;
        }
        fs::remove_dir_all(&debs).with_context(|| format!("removing {}", debs.display()))?;
        let modules = root.join("lib/modules");
        if !modules.exists() {
            // merged /usr since 7.0; modprobe looks below lib/
            fs::create_dir_all(root.join("lib")).context("making lib")?;
            std::os::unix::fs::symlink("../usr/lib/modules", &modules).context("linking lib/modules")?;
        }
        output(Command::new("depmod").arg("-b").arg(root).arg(release(root)?)).map(drop)
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.run_in(&self.dir, program, args)
    }

    fn run_in(&self, dir: &Path, program: &str, args: &[&str]) -> Result<String> {
        output(Command::new(program).args(args).current_dir(dir).env("APT_CONFIG", &self.config))
    }
}

fn found(root: &Path) -> Result<Fetched> {
    let release = release(root)?;
    let places = [
        root.join("boot").join(format!("vmlinuz-{release}")),
        root.join("lib/modules").join(&release).join("vmlinuz"),
    ];
    match places.iter().find(|place| place.is_file()) {
        Some(image) => Ok(Fetched { image: image.clone(), release, root: root.to_owned() }),
        None => bail!("no kernel image below {}", root.display()),
    }
}

fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let mut names = fs::read_dir(&modules)
        .with_context(|| format!("reading {}", modules.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.next().with_context(|| format!("nothing in {}", modules.display()))
}

/// Base of Debian's archive, or of its security archive, in this system's apt configuration.
pub(crate) fn mirror(security: bool) -> Result<String> {
    let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
    let list =
        || output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]));
    let pick = |text: &str, label: &str| {
        text.lines().find_map(|line| {
            let mut parts = line.split('|');
            let fits = parts.next() == Some("Debian") && parts.next() == Some(label);
            fits.then(|| parts.next().unwrap_or_default().trim_end_matches('/').to_owned())
        })
    };
    let mut text = list()?;
    if pick(&text, "Debian").is_none() {
        // No lists yet: apt knows origins only after an update.
        output(Command::new("apt-get").args(["-q", "update"]))?;
        text = list()?;
    }
    let debian =
        pick(&text, "Debian").context("apt knows no Debian archive; kernels come from Debian's packages")?;
    if !security {
        return Ok(debian);
    }
    Ok(pick(&text, "Debian-Security").unwrap_or_else(|| format!("{debian}-security")))
}

fn output(command: &mut Command) -> Result<String> {
    let shown = sh::shown(command);
    let out = command.output().with_context(|| format!("starting `{shown}`"))?;
    if !out.status.success() {
        bail!("`{shown}` ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The numbers in a name: `6.12.117` comes after `6.12.20`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(
            numbers("linux-image-6.12.117+deb12-cloud-amd64")
                > numbers("linux-image-6.12.20+deb12-cloud-amd64")
        );
        assert!(numbers("linux-image-6.1.0-56-cloud-amd64") > numbers("linux-image-6.1.0-9-cloud-amd64"));
    }
}
