//! What the benchmarks measure: an application without and one with the enforcer in front, in control groups of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use portcullis_enforcer::compile;
use portcullis_enforcer::kernel::{self, Datapath};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{Action, Bundle, Issuer, JwkSet, Mode, Policy, Rule};
use serde_json::json;

use crate::server::Server;

const ISSUER: &str = "https://issuer.bench.example";
const AUDIENCE: &str = "api://bench";
/// CPU of the client, the application and the proxies. The agent's threads stay on the others.
pub const CPU: usize = 0;
/// Length of a request head, bytes: what a browser or an API client with a token sends.
const HEAD_BYTES: usize = 800;

/// Keys that sign tokens.
pub struct Keys {
    rs256: SigningKey,
    es256: SigningKey,
}

/// Algorithm of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alg {
    Rs256,
    Es256,
}

/// Applications, programs, keys.
pub struct World {
    /// Not protected.
    pub direct: Server,
    /// Protected.
    pub guarded: Server,
    pub datapath: Datapath,
    pub keys: Keys,
    version: u64,
    cgroup: Cgroup,
}

// === impl Keys ===

impl Keys {
    fn generate() -> Result<Keys> {
        Ok(Keys { rs256: SigningKey::generate_rs256(2048)?, es256: SigningKey::generate_es256()? })
    }

    /// A valid token; `jti` makes it different from others.
    pub fn token(&self, alg: Alg, jti: usize) -> String {
        let (key, kid) = match alg {
            Alg::Rs256 => (&self.rs256, "rsa"),
            Alg::Es256 => (&self.es256, "ec"),
        };
        let header = json!({ "alg": key.alg(), "typ": "JWT", "kid": kid });
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "email": "user@bench.example", "roles": ["reader"],
            "iat": 1_700_000_000_u64, "exp": 4_000_000_000_u64, "jti": format!("{jti:016x}"),
        });
        key.sign(&header.to_string(), &claims.to_string())
    }

    fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.rs256.public_jwk("rsa"), self.es256.public_jwk("ec")] }
    }
}

// === impl World ===

impl World {
    /// Starts everything; `connections`: bound of the connections under control.
    pub fn start(connections: u32) -> Result<World> {
        let cgroup = Cgroup::new()?;
        let name = format!("bench-{}", std::process::id());
        let mut config = kernel::Config::new(&name, cgroup.path());
        config.limits.connections = connections;
        // Records are made, as by an agent, and then dropped.
        let datapath = Datapath::start(config, Box::new(drop)).context("starting the datapath")?;
        let direct = Server::start(None, CPU)?;
        let guarded = Server::start(Some(cgroup.path()), CPU)?;
        let mut world = World { direct, guarded, datapath, keys: Keys::generate()?, version: 0, cgroup };
        world.rules(1)?;
        Ok(world)
    }

    /// Puts a policy with so many rules into force. Every [`request`] is one of the rules'.
    pub fn rules(&mut self, count: usize) -> Result<()> {
        self.version += 1;
        let issuer = Issuer {
            issuer: ISSUER.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            leeway_s: 0,
            jwks: self.keys.jwks(),
        };
        let policy = Policy {
            id: "bench".to_owned(),
            name: "bench".to_owned(),
            port_match: self.guarded.addr().port(),
            host_match: None,
            mode: Mode::Enforce,
            default_action: Action::Deny,
            rules: rules(count),
        };
        let bundle = Bundle {
            version: self.version,
            issuers: vec![issuer],
            policies: vec![policy],
            ..Bundle::default()
        };
        let compiled = compile::compile(&bundle).context("compiling the policy")?;
        self.datapath.apply(Arc::new(compiled)).context("applying the policy")
    }

    /// Directory of the control group that the datapath watches.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// Connections that met a full table and so are not under control, since the start.
    pub fn refused(&self) -> Result<u64> {
        Ok(self.datapath.stats().context("reading counters")?.conn_refused)
    }

    /// Counts of the entry program since it was loaded: runs, and nanoseconds in it and what it calls. Only counted
    /// while run-time statistics are enabled.
    pub fn entry(&self) -> Result<(u64, u64)> {
        let pin = self.datapath.config().pins.join("progs/pc_entry");
        let info = aya::programs::ProgramInfo::from_pin(&pin)
            .with_context(|| format!("opening {}", pin.display()))?;
        Ok((info.run_count(), info.run_time().as_nanos() as u64))
    }

    /// Ends enforcement and removes what it made.
    pub fn stop(self) -> Result<()> {
        let World { direct, guarded, datapath, keys: _, version: _, cgroup } = self;
        drop((direct, guarded));
        datapath.detach().context("detaching")?;
        drop(cgroup);
        Ok(())
    }
}

/// One rule for all paths of [`request`], or so many of which each is for a few.
fn rules(count: usize) -> Vec<Rule> {
    let rule = |path_pattern| Rule {
        method: "GET".to_owned(),
        path_pattern,
        required_roles: vec!["reader".to_owned()],
        ..Rule::default()
    };
    match count {
        1 => vec![rule("/{area}/v1/resource/*".to_owned())],
        _ => (0..count).map(|n| rule(format!("/{}/v1/resource/*", area(n)))).collect(),
    }
}

/// The first segment of the paths of a rule: with the slashes eight bytes, as many as a connection remembers the automaton's
/// way by. Neighbours have nothing in common, so that way helps nobody who asks another rule's path.
fn area(n: usize) -> String {
    // Odd, so that no two of the first 2^24 are the same.
    format!("{:06x}", (n * 0x9e_3779 + 1) & 0xff_ffff)
}

/// A request head of [`HEAD_BYTES`] for the path of rule `n`, or longer when the token is.
pub fn request(token: &str, n: usize) -> Vec<u8> {
    let start = format!(
        "GET /{}/v1/resource/item-{n:05} HTTP/1.1\r\nHost: app.bench.example\r\n\
         User-Agent: portcullis-bench/1\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\nX-Pad: ",
        area(n)
    );
    let end = "\r\n\r\n";
    let pad = HEAD_BYTES.saturating_sub(start.len() + end.len()).max(1);
    (start + &"x".repeat(pad) + end).into_bytes()
}

/// A control group that is removed with the value.
struct Cgroup {
    path: PathBuf,
}

// === impl Cgroup ===

impl Cgroup {
    fn new() -> Result<Cgroup> {
        let root = kernel::cgroup2_mount().context("finding the cgroup2 mount")?;
        let path = root.join(format!("portcullis-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Cgroup { path })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes have been ended; the kernel may need a moment to notice.
        for _ in 0..50 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("warning: remove {} by hand", self.path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_paths_of_its_own_that_begin_like_no_others() {
        let mut areas: Vec<String> = (0..10_000).map(area).collect();
        areas.sort_unstable();
        areas.dedup();
        assert_eq!(areas.len(), 10_000);
        assert!(areas.iter().all(|area| area.len() == 6));
        let head = request("token", 7);
        let path = format!("GET /{}/v1/resource/item-00007 ", area(7));
        assert!(head.starts_with(path.as_bytes()) && head.len() == HEAD_BYTES);
    }
}
