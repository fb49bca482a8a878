//! Policies, keys and requests of the tests.

use portcullis_policy::PolicySet;
use portcullis_token::KeyStore;
use portcullis_token::mint::SigningKey;
use portcullis_wire::{Action, Auth, Issuer, JwkSet, Mode, Policy, Rule};

/// Now in tests, Unix seconds.
pub(crate) const NOW_S: u64 = 1_800_000_000;
/// The protected port of tests.
pub(crate) const PORT: u16 = 80;

/// A policy for [`PORT`] in this mode: `/open/*` is public, `/closed/*` needs a token, `/admin/*` the role admin, `/mfa/*`
/// an authentication with several factors within 300 seconds; all else is denied.
pub(crate) fn policies(mode: Mode) -> PolicySet {
    let rule = |path: &str| Rule {
        id: path.trim_matches(['/', '*']).to_owned(),
        method: "*".to_owned(),
        path_pattern: path.to_owned(),
        ..Rule::default()
    };
    let rules = vec![
        rule("/open/*"),
        Rule { auth: Some(Auth::Required), ..rule("/closed/*") },
        Rule { required_roles: vec!["admin".to_owned()], ..rule("/admin/*") },
        Rule { require_mfa: true, mfa_max_age_s: Some(300), ..rule("/mfa/*") },
    ];
    let policy = Policy {
        id: "p".to_owned(),
        name: "Policy".to_owned(),
        port_match: PORT,
        host_match: None,
        mode,
        default_action: Action::Deny,
        rules,
    };
    PolicySet::new(vec![policy]).unwrap()
}

/// A trusted issuer.
pub(crate) struct Tokens {
    key: SigningKey,
    pub(crate) keys: KeyStore,
}

impl Tokens {
    pub(crate) fn new() -> Tokens {
        let key = SigningKey::generate_es256().unwrap();
        let issuer = Issuer {
            issuer: "https://id.example".to_owned(),
            audiences: vec!["api".to_owned()],
            leeway_s: 0,
            jwks: JwkSet { keys: vec![key.public_jwk("k1")] },
        };
        let (keys, problems) = KeyStore::new(&[issuer]);
        assert_eq!(problems.len(), 0);
        Tokens { key, keys }
    }

    /// A good token of user `u1` that says this too: `"roles":["a"]`.
    pub(crate) fn token(&self, more: &str) -> String {
        let more = if more.is_empty() { String::new() } else { format!(",{more}") };
        let claims =
            format!(r#"{{"iss":"https://id.example","aud":"api","sub":"u1","exp":{}{more}}}"#, NOW_S + 60);
        self.key.sign(r#"{"alg":"ES256","kid":"k1"}"#, &claims)
    }
}

/// A request without body; `fields` are whole lines.
pub(crate) fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}
