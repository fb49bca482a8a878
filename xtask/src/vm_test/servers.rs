//! Servers of other kinds, to which denials are delivered: those of this machine, put into the guest.
//!
//! What this machine lacks, the guest lacks, and its tests skip themselves there by name. What was put in, the guest must
//! find: its settings say so (`vm-tests/src/settings.rs`).
//!
//! **Invariant:** the guest starts the program that the tests of this machine start, a Go toolchain apart: there the
//! program is built here.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};

use super::tree::{Tree, libraries, libraries_beside};
use crate::sh::{self, step};

/// What the servers add to a guest.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) tree: Tree,
    /// Lines of the guest's settings.
    pub(super) settings: Vec<String>,
}

/// The sources, by the path that the test programs were built with.
const SOURCES: &str = "enforcer/tests/live/servers";
/// Where the guest has the program of `server.go`.
const GO_PROGRAM: &str = "/servers/server-go";

/// Where node is, and the parts of its own library that Debian's packages keep in files of their own.
const ASK_NODE: &str = "console.log(process.execPath);\
    for (const d of process.config.target_defaults.defines || [])\
    { const [n, v] = d.split('='); if (/^NODE_SHARED_BUILTIN_/.test(n) && v) console.log(v); }";
/// What gunicorn lies beside.
const ASK_GUNICORN: &str = "import gunicorn, os; print(os.path.dirname(os.path.dirname(gunicorn.__file__)))";
/// Of that, what it starts with.
const OF_GUNICORN: &[&str] = &["_distutils_hack", "gunicorn", "packaging", "pkg_resources", "setuptools"];
/// Where the interpreter is, also behind a shim and a virtual environment, and its library.
const ASK_PYTHON: &str = "import os, sys, sysconfig\n\
    print(os.path.realpath(getattr(sys, '_base_executable', sys.executable)))\n\
    print(sysconfig.get_path('stdlib')); print(sysconfig.get_path('platstdlib'))";
/// What no server needs of Python's library, which is most of it.
const NOT_OF_PYTHON: &[&str] = &[
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
];
/// Below a JDK's home, where they are. `modules` has the compiler, which `java Server.java` runs; `classes.jsa` are
/// classes as they lie in memory, which saves most of the start.
const OF_JAVA: &[&str] = &[
    "lib/jvm.cfg",
    "lib/libextnet.so",
    "lib/libjava.so",
    "lib/libjimage.so",
    "lib/libjli.so",
    "lib/libnet.so",
    "lib/libnio.so",
    "lib/libverify.so",
    "lib/libzip.so",
    "lib/modules",
    "lib/server/classes.jsa",
    "lib/server/libjvm.so",
    "lib/tzdb.dat",
];

/// The program that a test looks for, or why the guest will lack it.
type Found = Result<PathBuf, String>;

/// Finds them.
pub(super) fn servers(dir: &Path) -> Result<Servers> {
    let step = step("servers for the guests");
    let mut servers = Servers::default();
    let nginx = sh::which("nginx").ok_or("not installed".to_owned());
    servers.take("nginx", nginx)?;
    let node = servers.node();
    servers.take("node", node)?;
    let python = servers.python()?;
    servers.take("python3", python)?;
    let gunicorn = servers.gunicorn()?;
    servers.take("gunicorn", gunicorn)?;
    let apache = servers.apache()?;
    servers.take("apache2", apache)?;
    let javac = servers.java()?;
    servers.take("javac", javac)?;
    servers.go(&step, dir)?;
    servers.tree.copy_below(&sh::root().join(SOURCES), &|_| true)?;
    step.done();
    Ok(servers)
}

// === impl Servers ===

impl Servers {
    fn node(&mut self) -> Found {
        let told = lines(&ask("node", &["-e", ASK_NODE])?.stdout);
        let [program, parts @ ..] = told.as_slice() else { return Err("it told nothing".to_owned()) };
        parts.iter().for_each(|part| self.tree.copy(part));
        Ok(program.clone())
    }

    fn python(&mut self) -> Result<Found> {
        // The system's own, where it is; else what PATH has.
        let system = Path::new("/usr/bin/python3");
        let program = if system.exists() { "/usr/bin/python3" } else { "python3" };
        let told = match ask(program, &["-I", "-c", ASK_PYTHON]) {
            Ok(out) => lines(&out.stdout),
            Err(why) => return Ok(Err(why)),
        };
        let [program, dirs @ ..] = told.as_slice() else { return Ok(Err("it told nothing".to_owned())) };
        for dir in dirs {
            self.tree.copy_below(dir, &of_python)?;
        }
        self.needed_below(dirs);
        Ok(Ok(program.clone()))
    }

    /// A script, for the interpreter that it names.
    fn gunicorn(&mut self) -> Result<Found> {
        let Some(script) = sh::which("gunicorn") else { return Ok(Err("not installed".to_owned())) };
        let text = std::fs::read(&script).with_context(|| format!("reading {}", script.display()))?;
        let Some(interpreter) = interpreter(&String::from_utf8_lossy(&text)) else {
            return Ok(Err(format!("{} names no interpreter", script.display())));
        };
        let told = match ask(&interpreter.to_string_lossy(), &["-c", ASK_GUNICORN]) {
            Ok(out) => lines(&out.stdout),
            Err(why) => return Ok(Err(why)),
        };
        let Some(dir) = told.first() else { return Ok(Err("it told nothing".to_owned())) };
        self.tree.copy_below(dir, &|path| {
            let first = path.strip_prefix(dir).ok().and_then(|below| below.iter().next());
            let first = first.unwrap_or_default().to_string_lossy();
            OF_GUNICORN.iter().any(|name| first.starts_with(name)) && !path.ends_with("__pycache__")
        })?;
        let canonical =
            interpreter.canonicalize().with_context(|| format!("looking for {}", interpreter.display()))?;
        self.tree.program(&canonical.to_string_lossy(), &canonical)?;
        if canonical != interpreter {
            self.tree.link(&interpreter.to_string_lossy(), &canonical);
        }
        Ok(Ok(script))
    }

    fn apache(&mut self) -> Result<Found> {
        let Some(program) = sh::which("apache2") else { return Ok(Err("not installed".to_owned())) };
        let modules = PathBuf::from("/usr/lib/apache2/modules");
        if modules.is_dir() {
            self.tree.copy_below(&modules, &|_| true)?;
            self.needed_below(&[modules]);
        }
        Ok(Ok(program))
    }

    /// What shared objects in these directories need. One whose library is not here is one that nothing here can use
    /// either: it is left out.
    fn needed_below(&mut self, dirs: &[PathBuf]) {
        for object in self.tree.objects_below(dirs) {
            match libraries(&object) {
                Ok(needed) => needed.iter().for_each(|library| self.tree.copy(library)),
                Err(_) => self.tree.remove(&object),
            }
        }
    }

    fn java(&mut self) -> Result<Found> {
        let told = match ask("java", &["-XshowSettings:properties", "-version"]) {
            // To standard error, as all that it says of itself.
            Ok(out) => String::from_utf8_lossy(&out.stderr).into_owned(),
            Err(why) => return Ok(Err(why)),
        };
        let Some(home) = java_home(&told) else { return Ok(Err("java does not tell its home".to_owned())) };
        let compiler = home.join("bin/javac");
        if !compiler.is_file() {
            return Ok(Err(format!("the Java of {} has no compiler", home.display())));
        }
        for file in OF_JAVA.iter().map(|name| home.join(name)).filter(|file| file.is_file()) {
            if file.extension().is_some_and(|extension| extension == "so") {
                let needed = libraries_beside(&file, &home.join("lib/server"))?;
                needed.iter().for_each(|library| self.tree.copy(library));
            }
            self.tree.copy(&file);
        }
        self.tree.copy_below(&home.join("conf"), &|_| true)?;
        self.tree.copy_below(&home.join("lib/security"), &|_| true)?;
        let java = home.join("bin/java");
        self.tree.program(&java.to_string_lossy(), &java)?;
        self.tree.link("bin/java", &java);
        Ok(Ok(compiler))
    }

    fn go(&mut self, step: &sh::Step, dir: &Path) -> Result<()> {
        if sh::which("go").is_none() {
            lacks("go", "not installed");
            return Ok(());
        }
        let program = dir.join("server-go");
        let mut build = Command::new("go");
        build.arg("build").arg("-o").arg(&program).arg(sh::root().join(SOURCES).join("server.go"));
        // As the tests build it.
        let cache =
            std::path::absolute(sh::target().join("tmp/go")).context("finding the target directory")?;
        build.env("GOCACHE", cache).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
        step.run_quiet(&mut build, "read the compiler's message above")?;
        self.tree.program(GO_PROGRAM, &program)?;
        self.settings.push(format!("env PORTCULLIS_GO_SERVER={GO_PROGRAM}"));
        self.settings.push("require go".to_owned());
        Ok(())
    }

    /// What was found the guest must have: by its own path, and on the guest's PATH.
    fn take(&mut self, feature: &str, found: Found) -> Result<()> {
        let program = match found {
            Ok(program) => program,
            Err(why) => {
                lacks(feature, &why);
                return Ok(());
            }
        };
        let program = program.canonicalize().with_context(|| format!("looking for {}", program.display()))?;
        self.tree.program(&program.to_string_lossy(), &program)?;
        let link = Path::new("/bin").join(feature);
        if link != program {
            self.tree.link(&link.to_string_lossy(), &program);
        }
        self.settings.push(format!("require {feature}"));
        Ok(())
    }
}

/// Says which tests will skip themselves in the guests, and why.
fn lacks(feature: &str, why: &str) {
    eprintln!("    no {feature} for the guests ({why}); `cargo xtask setup --delivery`");
}

/// Runs a program that tells about itself; the error is why it does not.
fn ask(program: &str, args: &[&str]) -> Result<Output, String> {
    let found = sh::which(program).ok_or("not installed")?;
    let out = Command::new(&found).args(args).output().map_err(|e| format!("{}: {e}", found.display()))?;
    if out.status.success() {
        return Ok(out);
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{} ended with {}: {first}", found.display(), out.status))
}

fn lines(text: &[u8]) -> Vec<PathBuf> {
    String::from_utf8_lossy(text).lines().map(PathBuf::from).collect()
}

/// The interpreter that the first line of a script names.
fn interpreter(script: &str) -> Option<PathBuf> {
    let named = script.lines().next()?.strip_prefix("#!")?.split_whitespace().next()?;
    Some(PathBuf::from(named)).filter(|path| path.is_absolute())
}

fn java_home(settings: &str) -> Option<PathBuf> {
    let told = settings.lines().find_map(|line| line.trim().strip_prefix("java.home = "));
    told.and_then(|home| Path::new(home).canonicalize().ok())
}

fn of_python(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !NOT_OF_PYTHON.contains(&name.as_ref()) && !name.starts_with("config-") && !name.ends_with(".a")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jdk_tells_its_home() {
        let root = std::env::temp_dir().canonicalize().expect("a directory");
        let told =
            format!("Property settings:\n    java.home = {}\n    java.io.tmpdir = /tmp\n", root.display());
        assert_eq!(java_home(&told), Some(root));
        assert_eq!(java_home("    java.homes = /\n"), None);
        assert_eq!(java_home("    java.home = /no/such/directory\n"), None);
    }

    #[test]
    fn of_python_the_library_is_taken_without_its_tests() {
        assert!(
            of_python(Path::new("/usr/lib/python3/http")) && of_python(Path::new("/lib-dynload/_socket.so"))
        );
        assert!(
            !of_python(Path::new("/usr/lib/python3/test")) && !of_python(Path::new("/x/config-3.11-x86_64"))
        );
    }

    #[test]
    fn a_script_names_its_interpreter() {
        assert_eq!(interpreter("#!/usr/bin/python3 -I\nimport re\n"), Some("/usr/bin/python3".into()));
        assert_eq!(interpreter("import re\n"), None);
        assert_eq!(interpreter(""), None);
    }

    #[test]
    fn a_program_that_is_not_here_says_so() {
        assert_eq!(ask("no-such-program-of-portcullis", &[]).expect_err("none"), "not installed");
        assert!(ask("false", &[]).expect_err("it fails").contains("ended with"));
    }
}
