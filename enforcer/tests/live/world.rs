//! A cgroup, an instance on it, keys to sign with, an application.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_bpf::abi::Stats;
use portcullis_enforcer::compile::compile;
use portcullis_enforcer::kernel::{Config, Datapath, DenyMode};
use portcullis_testkit::{InCgroup, TestCgroup};
use portcullis_token::mint::SigningKey;
use portcullis_wire::{
    AccessLog, Action, Auth, Bundle, Candidate, Issuer, JwkSet, Mode, Policy, Rule, Verdict,
};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.example/v1/acme";
pub const AUDIENCE: &str = "orders";
const KID: &str = "k1";

/// Everything of one test. The test's process is in the cgroup, so that servers it makes are covered.
pub struct World {
    pub datapath: Option<Datapath>,
    pub config: Config,
    pub records: Arc<Mutex<Vec<AccessLog>>>,
    pub key: SigningKey,
    version: u64,
    _inside: InCgroup,
    _cgroup: TestCgroup,
}

impl World {
    pub fn new(name: &str) -> World {
        World::with(name, |_| {})
    }

    /// A world whose configuration `change` alters.
    pub fn with(name: &str, change: impl FnOnce(&mut Config)) -> World {
        let cgroup = TestCgroup::new(name).expect("cgroup");
        let inside = cgroup.enter_process().expect("entering the cgroup");
        let mut config = Config::new(&instance(name), cgroup.path());
        // Smaller maps are made faster.
        config.limits.connections = 4096;
        config.virtual_time = true;
        change(&mut config);
        let records = Arc::default();
        let datapath = start(&config, &records);
        let key = SigningKey::generate_rs256(2048).expect("key");
        World { datapath: Some(datapath), config, records, key, version: 0, _inside: inside, _cgroup: cgroup }
    }

    pub fn datapath(&self) -> &Datapath {
        self.datapath.as_ref().expect("a running datapath")
    }

    /// Ends the agent's part and starts it again.
    pub fn restart(&mut self) {
        drop(self.datapath.take());
        self.datapath = Some(start(&self.config, &self.records));
    }

    /// Puts policies into force.
    pub fn apply(&mut self, policies: Vec<Policy>) {
        self.apply_beside(policies, None);
    }

    /// Puts policies into force, and others on trial beside them.
    pub fn apply_beside(&mut self, policies: Vec<Policy>, tried: Option<Vec<Policy>>) {
        let candidate = tried.map(|policies| Candidate { name: "next".into(), policies });
        self.apply_bundle(|bundle| Bundle { policies, candidate, ..bundle });
    }

    /// Puts the bundle into force that `change` makes of one without policies.
    pub fn apply_bundle(&mut self, change: impl FnOnce(Bundle) -> Bundle) {
        self.version += 1;
        let bundle = change(self.bundle(self.version, Vec::new()));
        let compiled = compile(&bundle).expect("a valid bundle");
        assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
        assert_eq!(compiled.candidate_problem, None);
        self.datapath.as_mut().expect("a running datapath").apply(Arc::new(compiled)).expect("applied");
    }

    pub fn bundle(&self, version: u64, policies: Vec<Policy>) -> Bundle {
        let jwks = JwkSet { keys: vec![self.key.public_jwk(KID)] };
        let issuer = Issuer { issuer: ISSUER.into(), audiences: vec![AUDIENCE.into()], leeway_s: 0, jwks };
        Bundle { version, issuers: vec![issuer], policies, ..Bundle::default() }
    }

    /// A token of this issuer; `over` replaces claims, null removes one.
    pub fn token(&self, over: Value) -> String {
        self.key
            .sign(&json!({ "alg": "RS256", "typ": "JWT", "kid": KID }).to_string(), &claims(over).to_string())
    }

    /// A valid token with one role.
    pub fn role(&self, role: &str) -> String {
        self.token(json!({ "roles": [role] }))
    }

    /// The records of all decisions made so far.
    pub fn records(&self) -> Vec<AccessLog> {
        self.datapath().flush();
        self.records.lock().expect("no thread panicked").clone()
    }

    /// How many records have each reason.
    pub fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for record in self.records() {
            *reasons.entry(record.reason).or_default() += 1;
        }
        reasons
    }

    /// How many records have a verdict.
    pub fn verdicts(&self, verdict: Verdict) -> usize {
        self.records().iter().filter(|record| record.decision == verdict).count()
    }

    pub fn stats(&self) -> Stats {
        self.datapath().stats().expect("counters")
    }

    /// Fails unless the agent answers here: on every kernel that we support, it can.
    pub fn expect_agent_mode(&self) {
        assert_eq!(self.datapath().health().expect("health").deny_mode, DenyMode::Agent);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let ended = match self.datapath.take() {
            Some(datapath) => datapath.detach().map(|()| true),
            None => Datapath::remove(&self.config.pins),
        };
        if let Err(error) = ended {
            eprintln!("{} is left behind: {error}", self.config.pins.display());
        }
    }
}

fn start(config: &Config, records: &Arc<Mutex<Vec<AccessLog>>>) -> Datapath {
    let records = records.clone();
    let take = Box::new(move |batch| records.lock().expect("no thread panicked").extend(batch));
    Datapath::start(config.clone(), take).unwrap_or_else(|error| panic!("{error}"))
}

fn instance(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Now, Unix seconds.
pub fn now_s() -> u64 {
    since_1970().as_secs()
}

/// The same, ns.
pub fn now_ns() -> i128 {
    i128::try_from(since_1970().as_nanos()).expect("before the year 10^21")
}

#[expect(clippy::disallowed_methods, reason = "tokens for the live kernel carry the real time")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn claims(over: Value) -> Value {
    let now = now_s();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "email": "u@example.com", "iat": now, "exp": now + 600,
        "roles": ["reader"],
    });
    if let (Value::Object(claims), Value::Object(over)) = (&mut claims, over) {
        for (name, value) in over {
            match value {
                Value::Null => drop(claims.remove(&name)),
                value => drop(claims.insert(name, value)),
            }
        }
    }
    claims
}

/// The policy of most tests: /health is open, the rest needs the role `reader`.
pub fn policy(port: u16, mode: Mode) -> Policy {
    let health = Rule {
        method: "GET".into(),
        path_pattern: "/health".into(),
        auth: Some(Auth::None),
        ..Rule::default()
    };
    let rest = Rule {
        method: "*".into(),
        path_pattern: "/**".into(),
        required_roles: vec!["reader".into()],
        ..Rule::default()
    };
    Policy {
        id: "orders".into(),
        name: "orders".into(),
        port_match: port,
        host_match: None,
        mode,
        default_action: Action::Deny,
        rules: vec![health, rest],
    }
}
