//! Random policies, requests and identities that meet each other often: small vocabularies, and requests made from the
//! patterns.

use portcullis_testkit::Rng;
use portcullis_wire::{Action, Auth, Mode, Policy, Requirements, Rule};

/// Ports that policies may cover.
pub const PORTS: [u16; 2] = [80, 8080];
const HOST_MATCHES: [&str; 8] = [
    "a.example",
    "*.a.example",
    "*.example",
    "b.a.example",
    "*.b.a.example",
    "xn--a-b.test",
    "10.0.0.1",
    "[2001:db8::1]",
];
const HOSTS: [&str; 13] = [
    "10.0.0.1",
    "[2001:db8::1]",
    "[2001:db8::11]",
    "a.example",
    "b.a.example",
    "c.b.a.example",
    "x.y.b.a.example",
    "example",
    "z.example",
    "aa.example",
    "xn--a-b.test",
    "other.test",
    "a.example.test",
];
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "*"];
const REQUEST_METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "TRACE"];
const WORDS: [&str; 9] = ["a", "b", "ab", "api", "v1", "users", "me", "x.json", "a-b_c~d"];
const NAMES: [&str; 5] = ["admin", "doctor", "nurse", "viewer", "auditor"];
const ORGS: [&str; 3] = ["acme", "globex", "initech"];
const MFA_AGES_S: [u32; 3] = [1, 2, 300];
/// Now, Unix seconds.
pub const NOW_S: u64 = 1_800_000_000;

/// What a request is, canonical already.
#[derive(Clone, Debug)]
pub struct Request {
    pub port: u16,
    pub host: String,
    pub method: &'static str,
    pub path: String,
}

/// Claims that policies look at.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    pub groups: Vec<String>,
    pub org_id: Option<String>,
    pub mfa_verified: bool,
    pub auth_time: Option<u64>,
}

/// One to four policies; two may cover the same host, which the caller sees refused and draws again.
pub fn policies(rng: &mut Rng) -> Vec<Policy> {
    (0..1 + rng.below(4)).map(|number| policy(rng, number)).collect()
}

fn policy(rng: &mut Rng, number: u64) -> Policy {
    Policy {
        id: format!("policy-{number}"),
        name: format!("Policy {number}"),
        port_match: PORTS[rng.below(2) as usize],
        host_match: (!rng.one_in(3)).then(|| one(rng, &HOST_MATCHES)),
        mode: mode(rng),
        default_action: if rng.one_in(3) { Action::Allow } else { Action::Deny },
        rules: (0..rng.below(9)).map(|number| rule(rng, number)).collect(),
    }
}

fn mode(rng: &mut Rng) -> Mode {
    match rng.below(8) {
        0 => Mode::Disabled,
        1 | 2 => Mode::Monitor,
        _ => Mode::Enforce,
    }
}

fn rule(rng: &mut Rng, number: u64) -> Rule {
    let mut rule = Rule {
        id: if rng.one_in(3) { String::new() } else { format!("r{}", 20 - number) },
        method: one(rng, &METHODS),
        path_pattern: pattern(rng),
        mode: rng.one_in(4).then(|| mode(rng)),
        priority: rng.below(3) as i32 - 1,
        ..Rule::default()
    };
    match rng.below(6) {
        0 => rule.auth = Some(Auth::None),
        1 => rule.auth = Some(Auth::Optional),
        2 => rule.auth = Some(Auth::Required),
        _ => requirements(rng, &mut rule),
    }
    rule
}

fn requirements(rng: &mut Rng, rule: &mut Rule) {
    let list = |rng: &mut Rng| if rng.one_in(4) { some(rng, &NAMES, 1) } else { Vec::new() };
    rule.required_roles = list(rng);
    rule.required_permissions = list(rng);
    rule.required_groups = list(rng);
    let lists = |rng: &mut Rng| Requirements {
        roles: some(rng, &NAMES, 0),
        permissions: some(rng, &NAMES, 0),
        groups: some(rng, &NAMES, 0),
    };
    rule.all_of = rng.one_in(5).then(|| lists(rng)).filter(|lists| *lists != Requirements::default());
    rule.none_of = rng.one_in(5).then(|| lists(rng)).filter(|lists| *lists != Requirements::default());
    rule.required_org = rng.one_in(5).then(|| one(rng, &ORGS));
    rule.require_mfa = rng.one_in(4);
    rule.mfa_max_age_s = (rule.require_mfa && rng.one_in(2)).then(|| *rng.pick(&MFA_AGES_S).unwrap());
    if rng.one_in(4) {
        rule.auth = Some(Auth::Required);
    }
}

fn pattern(rng: &mut Rng) -> String {
    let mut pattern = String::new();
    for _ in 0..rng.below(5) {
        pattern += "/";
        pattern += &segment(rng);
    }
    match rng.below(6) {
        0 => pattern += "/*",
        1 => pattern += "/**",
        2 => pattern += "/",
        _ => {}
    }
    if pattern.is_empty() { "/".to_owned() } else { pattern }
}

fn segment(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 | 1 => "{id}".to_owned(),
        2 => "*".to_owned(),
        3 => "**".to_owned(),
        4 => format!("{}*", one(rng, &WORDS)),
        5 => format!("*{}", one(rng, &WORDS)),
        6 => format!("*{}*", one(rng, &WORDS)),
        _ => one(rng, &WORDS),
    }
}

/// A request that often meets one of the policies.
pub fn request(rng: &mut Rng, policies: &[Policy]) -> Request {
    let target = if rng.one_in(12) { None } else { rng.pick(policies) };
    let rule = if rng.one_in(5) { None } else { target.and_then(|policy| rng.pick(&policy.rules)) };
    let port = target.or(policies.first()).map_or(PORTS[0], |policy| policy.port_match);
    let host = match target.and_then(|policy| policy.host_match.as_deref()) {
        _ if rng.one_in(20) => String::new(),
        Some(host) if !rng.one_in(4) => host.replace('*', if rng.one_in(2) { "x" } else { "b" }),
        _ => one(rng, &HOSTS),
    };
    let method = rule
        .filter(|_| !rng.one_in(4))
        .and_then(|rule| REQUEST_METHODS.into_iter().find(|method| *method == rule.method))
        .unwrap_or_else(|| REQUEST_METHODS[rng.below(9) as usize]);
    let path = match rule {
        Some(rule) => instance(rng, &rule.path_pattern),
        None => path(rng),
    };
    Request { port, host, method, path }
}

fn path(rng: &mut Rng) -> String {
    let mut path: String = (0..rng.below(5)).map(|_| format!("/{}", one(rng, &WORDS))).collect();
    if path.is_empty() || rng.one_in(6) {
        path += "/";
    }
    path
}

/// A path that the pattern matches, or nearly does.
fn instance(rng: &mut Rng, pattern: &str) -> String {
    let mut path = String::new();
    for segment in pattern.split('/').skip(1) {
        match segment {
            "**" => (0..rng.below(3)).for_each(|_| path += &format!("/{}", one(rng, &WORDS))),
            "*" if rng.one_in(3) => {}
            "*" | "{id}" => path += &format!("/{}", one(rng, &WORDS)),
            segment => {
                let star = if rng.one_in(2) { "" } else { "ab" };
                path += &format!("/{}", segment.replace('*', star));
            }
        }
    }
    match rng.below(12) {
        0 => path += "/",
        1 => path += "x",
        2 => path += "/a",
        _ => {}
    }
    let mut path = path.replace("//", "/");
    if path.is_empty() {
        path += "/";
    }
    path
}

/// Claims of a token.
pub fn claims(rng: &mut Rng) -> Claims {
    Claims {
        roles: some(rng, &NAMES, 0),
        permissions: some(rng, &NAMES, 0),
        groups: some(rng, &NAMES, 0),
        org_id: (!rng.one_in(3)).then(|| one(rng, &ORGS)),
        mfa_verified: !rng.one_in(3),
        // Around the ages that rules name, and in the future.
        auth_time: (!rng.one_in(5))
            .then(|| NOW_S + 2 - rng.below(5) - u64::from(*rng.pick(&MFA_AGES_S).unwrap())),
    }
}

fn one(rng: &mut Rng, from: &[&str]) -> String {
    from[rng.below(from.len() as u64) as usize].to_owned()
}

fn some(rng: &mut Rng, from: &[&str], at_least: u64) -> Vec<String> {
    let count = at_least + rng.below(4);
    let mut names: Vec<String> = (0..count).map(|_| one(rng, from)).collect();
    names.sort_unstable();
    names.dedup();
    names
}
