//! What an agent with these settings would meet: its control plane, its files, the services of its host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_enforcer::agent::{PlaneError, probe_plane};
use portcullis_enforcer::discover::{self, Listener};

use super::{Finding, State};
use crate::agent::settings::Settings;
use crate::following::identity_beside;

/// Everything that the settings name.
pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![plane(settings), identity(settings), bundle_key(settings)];
    findings.extend(settings.cache.as_deref().map(|file| {
        // The file is replaced by renaming: its directory has to be writable.
        directory("cache", file.parent().unwrap_or(Path::new(".")))
    }));
    findings.extend(settings.spool.as_deref().map(|dir| directory("spool", dir)));
    let remedy = |flag: &str, what: &str| format!("set `{flag}` in the agent's settings: {what}");
    if settings.cache.is_none() {
        let found = "not set: a start without the control plane enforces nothing new";
        findings.push(Finding::note(
            "cache",
            found,
            remedy("cache", "a file that keeps the last configuration"),
        ));
    }
    if settings.spool.is_none() {
        let found = "not set: records that wait are lost with the agent, and unnumbered";
        findings.push(Finding::note("spool", found, remedy("spool", "a directory where they wait")));
    }
    findings
}

/// What listens here, and whose it is.
pub(super) fn services() -> Finding {
    match discover::listeners(Path::new(discover::PROC)) {
        Err(error) => {
            Finding::new("services", false, error.to_string(), "mount procfs: mount -t proc proc /proc")
        }
        Ok(found) => of_listeners(&found),
    }
}

fn of_listeners(found: &[Listener]) -> Finding {
    let namespaces: BTreeSet<u64> = found.iter().map(|listener| listener.netns).collect();
    let unknown = found.iter().filter(|listener| listener.process.is_none()).count();
    let text = format!("{} listening ports in {} network namespaces", found.len(), namespaces.len());
    if unknown == 0 {
        return Finding::new("services", true, text, "");
    }
    let remedy = "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH";
    Finding::note("services", format!("{text}; the processes of {unknown} cannot be seen"), remedy)
}

fn plane(settings: &Settings) -> Finding {
    const WHAT: &str = "plane";
    let Some(url) = &settings.api_url else {
        return Finding::new(
            WHAT,
            false,
            "where it is is not set",
            "set api_url, AUTHFI_API_URL or --api-url",
        );
    };
    match probe_plane(url, &settings.trust()) {
        Ok(status) => Finding::new(WHAT, true, format!("{url} answers, with status {status}"), ""),
        // Its text has a remedy of its own.
        Err(error @ (PlaneError::Tls { .. } | PlaneError::Trust(_))) => {
            let text = error.to_string();
            let (found, remedy) = text.rsplit_once("; ").unwrap_or((&text, "write it as it says"));
            Finding::new(WHAT, false, found, remedy)
        }
        Err(error) => {
            let remedy = "check address, firewall and whether it runs";
            Finding::new(WHAT, false, format!("{url}: {error}"), remedy)
        }
    }
}

fn identity(settings: &Settings) -> Finding {
    const WHAT: &str = "identity";
    let remedy =
        "set AUTHFI_TENANT, and AUTHFI_AGENT_ID with AUTHFI_AGENT_TOKEN, or AUTHFI_API_KEY to register";
    match (&settings.tenant, &settings.agent_id, &settings.agent_token, &settings.api_key) {
        (None, ..) => Finding::new(WHAT, false, "the tenant is not set", remedy),
        (_, Some(id), Some(_), _) => Finding::new(WHAT, true, format!("agent {id}"), ""),
        (_, _, _, Some(_)) => match kept_in(settings) {
            Some(file) if file.exists() => {
                Finding::new(WHAT, true, format!("kept in {}", file.display()), "")
            }
            Some(file) => {
                Finding::new(WHAT, true, format!("registers, and keeps it in {}", file.display()), "")
            }
            None => {
                let found = "registers itself at every start, as another agent each time";
                Finding::note(WHAT, found, "set `cache` or `identity`, so that it is kept")
            }
        },
        _ => Finding::new(WHAT, false, "who the agent is is not set", remedy),
    }
}

/// The key that configurations are signed with, and what happens without it.
fn bundle_key(settings: &Settings) -> Finding {
    const WHAT: &str = "bundle key";
    match (&settings.bundle_key, kept_in(settings)) {
        (Some(file), _) if file.exists() => {
            Finding::new(WHAT, true, format!("given in {}", file.display()), "")
        }
        (Some(file), _) => {
            let found = format!("{} does not exist", file.display());
            Finding::new(WHAT, false, found, "write the JWK of the registration there")
        }
        (None, Some(file)) => {
            Finding::new(WHAT, true, format!("is, or will be, kept in {}", file.display()), "")
        }
        (None, None) => {
            let found = "not given, and not kept: the control plane is believed anew at every start";
            Finding::note(WHAT, found, "set `bundle_key`, or `cache` or `identity`, so that it is kept")
        }
    }
}

/// The identity file.
fn kept_in(settings: &Settings) -> Option<PathBuf> {
    settings.identity.clone().or_else(|| settings.cache.as_deref().map(identity_beside))
}

/// Tries to write there; the directory is made, as the agent would.
fn directory(what: &'static str, dir: &Path) -> Finding {
    let probe = dir.join(".portcullis-doctor");
    let tried =
        fs::create_dir_all(dir).and_then(|()| fs::write(&probe, b"")).and_then(|()| fs::remove_file(&probe));
    match tried {
        Ok(()) => Finding::new(what, true, format!("{} can be written", dir.display()), ""),
        Err(error) => {
            let remedy = format!("as root: install -d -m 0700 {}", dir.display());
            Finding::new(what, false, format!("{}: {error}", dir.display()), remedy)
        }
    }
}

// === impl Finding ===

impl Finding {
    /// It works, but not as well.
    pub(super) fn note(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { state: State::Slow, ..Finding::new(what, false, found, remedy) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn state_of(findings: &[Finding], what: &str) -> State {
        findings.iter().find(|finding| finding.what == what).expect("a finding").state
    }

    #[test]
    fn a_plane_that_answers_is_good_and_others_say_why() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-x\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                assert_ne!(stream.read(&mut [0; 512]).unwrap(), 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let plane = |url: &str| plane(&Settings { api_url: Some(url.to_owned()), ..Settings::default() });
        assert_eq!(plane(&url).state, State::Good);
        assert_eq!(plane(&url).state, State::Missing);
        server.join().unwrap();
        assert_eq!(plane(&url).state, State::Missing, "nobody listens any more");
        let clear = plane("http://plane.example");
        assert!(
            clear.state == State::Missing && clear.remedy.contains("--insecure-http"),
            "{}",
            clear.remedy
        );
        assert_eq!(plane("").state, State::Missing);
    }

    #[test]
    fn settings_are_tried() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let some = |text: &str| Some(text.to_owned());
        let good = Settings {
            tenant: some("t"),
            agent_id: some("a"),
            agent_token: some("s"),
            cache: Some(dir.path().join("bundle")),
            spool: Some(dir.path().join("spool")),
            ..Settings::default()
        };
        let found = findings(&good);
        for what in ["identity", "bundle key", "cache", "spool"] {
            assert_eq!(state_of(&found, what), State::Good, "{what}");
        }
        let bad = Settings { spool: Some(file.join("spool")), ..Settings::default() };
        let found = findings(&bad);
        assert_eq!(state_of(&found, "spool"), State::Missing);
        assert_eq!(state_of(&found, "identity"), State::Missing);
        assert_eq!(state_of(&found, "cache"), State::Slow);
        assert_eq!(state_of(&found, "bundle key"), State::Slow);
        let gone = Settings { bundle_key: Some(file.join("gone")), ..Settings::default() };
        assert_eq!(state_of(&findings(&gone), "bundle key"), State::Missing);
    }
}
