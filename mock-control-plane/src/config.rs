//! What a control plane is started with.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::{Clock, Plan};

/// Configuration of a [`ControlPlane`](crate::ControlPlane). The default is one for demonstrations: loopback, port
/// 8787, the tenant `acme` with the API key `sk_demo`, test interface on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Tenants that exist from the start.
    pub tenants: Vec<TenantConfig>,
    /// Certificate and key; absent: HTTP without TLS.
    pub tls: Option<TlsFiles>,
    /// Base of the issuer names and links, without a trailing slash; absent: `http://` or `https://` and the listening
    /// address, and for a tenant of the state file what it says.
    pub issuer_base: Option<String>,
    /// Whether the test interface exists: the mint, faults on demand, the movable clock. Never on anything but a
    /// test system: it makes tokens for whoever asks.
    pub test_api: bool,
    /// The clock.
    pub clock: Clock,
    /// Lifetime of access tokens, seconds; at most a day.
    pub access_token_ttl_s: u64,
    /// Lifetime of sessions, and so of refresh tokens, seconds.
    pub session_ttl_s: u64,
    /// Rounds of PBKDF2-HMAC-SHA256 for passwords and backup codes.
    pub password_rounds: NonZeroU32,
    /// File that holds the state, made if there is none; absent: the state ends with the process. What was answered
    /// survives the process's death by any signal, and the machine's. The file holds signing keys.
    pub state: Option<PathBuf>,
}

/// What clients are answered with over TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A tenant to create.
#[derive(Clone, Debug)]
pub struct TenantConfig {
    /// Name, as it stands in the URLs.
    pub name: String,
    /// API key of the management interface, `X-API-Key`.
    pub api_key: String,
    /// Audiences that the tenant's tokens are accepted for; the first one is what the control plane writes.
    pub audiences: Vec<String>,
    /// Clock leeway of token checks, seconds.
    pub leeway_s: u32,
    /// What the tenant may have; absent: what the state file says, or [`Plan::Enterprise`].
    pub plan: Option<Plan>,
}

/// Longest lifetime of an access token, seconds: bounds how long a revocation has to be remembered.
pub(crate) const ACCESS_TOKEN_TTL_MAX_S: u64 = 86_400;

/// What OWASP's password storage cheat sheet asks for with PBKDF2-HMAC-SHA256.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// Tests have passwords to check by the hundred and none to keep.
const ROUNDS_FOR_TESTS: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");

// === impl Config ===

impl Config {
    /// Loopback, a port of the system's choice, the machine's clock, the test interface, and `tenant`.
    #[must_use]
    pub fn for_tests(tenant: TenantConfig) -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tenants: vec![tenant],
            password_rounds: ROUNDS_FOR_TESTS,
            ..Config::default()
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            tenants: vec![TenantConfig::default()],
            tls: None,
            issuer_base: None,
            test_api: true,
            clock: Clock::system(),
            access_token_ttl_s: 900,
            session_ttl_s: 7 * 86_400,
            password_rounds: ROUNDS,
            state: None,
        }
    }
}

// === impl TenantConfig ===

impl Default for TenantConfig {
    fn default() -> TenantConfig {
        TenantConfig {
            name: "acme".to_owned(),
            api_key: "sk_demo".to_owned(),
            audiences: vec!["portcullis-demo".to_owned()],
            leeway_s: 5,
            plan: None,
        }
    }
}
