//! Login with password and second factor, refresh, step-up, logout.
//!
//! **Invariant:** an unknown user and a wrong password get the same answer after the same work. **Invariant:** results
//! are told only while the subject is not throttled, however many attempts run at once.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::directory::{Scope, User};
use crate::extract::{Body, Caller};
use crate::mfa::MfaPolicy;
use crate::password::{Derivation, Derived, PasswordHash, off_thread};
use crate::server::{Limits, Shared};
use crate::session::{Refresh, Strength};
use crate::store::Tenant;
use crate::ticket::Purpose;
use crate::{FieldError, Problem, totp};

/// Address and password, or the ticket that they gave; and a code.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    mfa_token: Option<String>,
    #[serde(default)]
    mfa_code: Option<String>,
}

/// A refresh token.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Refreshing {
    refresh_token: String,
}

/// A code.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUp {
    mfa_code: String,
}

/// What a login gives: tokens, or what is to be done before.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub(super) enum LoginAnswer {
    /// The user is in.
    Tokens(Tokens),
    /// A code is needed.
    Code(CodeWanted),
    /// A second factor has to be enrolled.
    Enrollment(EnrollmentWanted),
}

/// Tokens of a session.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Tokens {
    access_token: String,
    /// `Bearer`
    token_type: &'static str,
    /// Lifetime of the access token, seconds.
    expires_in: u64,
    refresh_token: String,
    session_id: String,
    /// True where the policy would like a second factor and the user has none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    mfa_encouraged: bool,
}

/// The password is right; a code is to be sent with this ticket.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct CodeWanted {
    mfa_required: bool,
    mfa_token: String,
}

/// The password is right; a second factor is to be enrolled with this ticket.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct EnrollmentWanted {
    mfa_enrollment_required: bool,
    enrollment_token: String,
}

/// A token with a fresh second factor.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct SteppedUp {
    access_token: String,
    /// `Bearer`
    token_type: &'static str,
    /// Lifetime, seconds.
    expires_in: u64,
}

/// An answer that nobody keeps.
pub(crate) struct NoStore<T>(pub T);

impl<T: Serialize> IntoResponse for NoStore<T> {
    fn into_response(self) -> Response {
        ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(self.0)).into_response()
    }
}

/// What there is to check before anything is told.
struct Attempt {
    /// Whom failures of the password count for; absent: the password was checked before.
    subject: Option<String>,
    user: Option<String>,
    password: Option<(PasswordHash, String)>,
    backup: Option<(Derivation, String)>,
}

/// What came out of it.
struct Outcome {
    password: bool,
    backup: Option<Derived>,
}

/// Longest address, and longest code, bytes.
const TEXT_BYTES_MAX: usize = 320;

/// `POST /v1/{tenant}/auth/login`
pub(super) async fn login(
    State(shared): State<Shared>,
    Path(tenant): Path<String>,
    Body(credentials): Body<Credentials>,
) -> Result<NoStore<LoginAnswer>, Problem> {
    let code = credentials.mfa_code.clone();
    let attempt = prepare(&shared, &tenant, credentials)?;
    let Attempt { subject, user, password, backup } = attempt;
    let outcome = off_thread(move || Outcome {
        password: password.is_none_or(|(hash, password)| hash.matches(&password)),
        backup: backup.map(|(derivation, code)| derivation.apply(&code)),
    })
    .await?;
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&tenant)?;
    let user = judge_password(tenant, subject, user.filter(|_| outcome.password), now_s)?;
    let row = tenant.directory.user(&Scope::Tenant, &user)?;
    if !row.active {
        return Err(Problem::forbidden("the account is deactivated"));
    }
    let (enrolled, org) = (row.mfa.verified().is_some(), row.org.clone());
    let policy = tenant.mfa_policy_of(org.as_deref());
    match (enrolled, code) {
        (true, None) => {
            let mfa_token = tenant.tickets.issue(&user, Purpose::Mfa, now_s)?;
            Ok(NoStore(LoginAnswer::Code(CodeWanted { mfa_required: true, mfa_token })))
        }
        (true, Some(code)) => {
            accept_code(tenant, &user, &code, outcome.backup.as_ref(), now_s)?;
            tenant.tickets.spend(&user, Purpose::Mfa);
            let tokens = begin(tenant, &user, true, now_s, shared.limits)?;
            Ok(NoStore(LoginAnswer::Tokens(tokens)))
        }
        (false, _) if policy == MfaPolicy::Required => {
            let enrollment_token = tenant.tickets.issue(&user, Purpose::Enroll, now_s)?;
            let wanted = EnrollmentWanted { mfa_enrollment_required: true, enrollment_token };
            Ok(NoStore(LoginAnswer::Enrollment(wanted)))
        }
        (false, _) => {
            let tokens = begin(tenant, &user, false, now_s, shared.limits)?;
            let mfa_encouraged = policy == MfaPolicy::Encouraged;
            Ok(NoStore(LoginAnswer::Tokens(Tokens { mfa_encouraged, ..tokens })))
        }
    }
}

/// `POST /v1/{tenant}/auth/refresh`
pub(super) async fn refresh(
    State(shared): State<Shared>,
    Path(tenant): Path<String>,
    Body(Refreshing { refresh_token }): Body<Refreshing>,
) -> Result<NoStore<Tokens>, Problem> {
    let now = shared.clock.now();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&tenant)?;
    match tenant.sessions.refresh(&refresh_token, now.as_secs())? {
        Refresh::Rotated { sid, refresh_token } => {
            tokens(tenant, sid, refresh_token, now.as_secs(), shared.limits).map(NoStore)
        }
        Refresh::Reused { sid } => {
            tenant.revoke(portcullis_wire::RevokedClaim::Sid, &sid, None, now);
            Err(Problem::unauthorized("the refresh token was used before; the session has ended"))
        }
        Refresh::Unknown => Err(Problem::unauthorized("the refresh token is not valid; log in again")),
    }
}

/// `POST /v1/{tenant}/auth/step-up`: a token with a fresh `auth_time` and a verified second factor.
pub(super) async fn step_up(
    State(shared): State<Shared>,
    caller: Caller,
    Body(StepUp { mfa_code }): Body<StepUp>,
) -> Result<NoStore<SteppedUp>, Problem> {
    too_long("/mfa_code", &mfa_code)?;
    let user = &caller.bearer.user;
    let derivation = {
        let store = shared.store();
        let row = store.tenant(&caller.tenant)?.directory.user(&Scope::Tenant, user)?;
        if row.mfa.verified().is_none() {
            return Err(Problem::conflict(
                "no second factor is enrolled; enrol one with `POST …/mfa/enroll`",
            ));
        }
        backup_derivation(row, Some(&mfa_code))
    };
    let backup = off_thread(move || derivation.map(|(derivation, code)| derivation.apply(&code))).await?;
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&caller.tenant)?;
    accept_code(tenant, user, &mfa_code, backup.as_ref(), now_s)?;
    let ended = || Problem::unauthorized("the session has ended; log in again");
    let session = tenant.sessions.get_mut(&caller.bearer.sid, now_s).ok_or_else(ended)?;
    session.strength = Strength { auth_time_s: now_s, mfa: true };
    let access_token = tenant.access_token(&caller.bearer.sid, now_s, shared.limits.access_token_ttl_s)?;
    let expires_in = shared.limits.access_token_ttl_s;
    Ok(NoStore(SteppedUp { access_token, token_type: "Bearer", expires_in }))
}

/// Whether `code` is good now: at most once, and only while the user is not throttled.
pub(super) fn accept_code(
    tenant: &mut Tenant,
    user: &str,
    code: &str,
    backup: Option<&Derived>,
    now_s: u64,
) -> Result<(), Problem> {
    let subject = code_subject(user);
    not_throttled(tenant, &subject, now_s)?;
    let mfa = tenant.directory.mfa_mut(user)?;
    let good = match backup {
        Some(backup) => mfa.accept_backup(backup),
        None => mfa.accept_code(code, now_s),
    };
    if !good {
        tenant.throttle.failed(&subject, now_s);
        return Err(Problem::unauthorized("the code is wrong, or was used before"));
    }
    tenant.throttle.succeeded(&subject);
    Ok(())
}

/// Throttled apart from passwords: whoever knows a password must not be able to guess codes by logging in again.
pub(super) fn code_subject(user: &str) -> String {
    format!("code:{user}")
}

/// Refuses while `subject` has to wait.
pub(super) fn not_throttled(tenant: &Tenant, subject: &str, now_s: u64) -> Result<(), Problem> {
    tenant.throttle.wait_s(subject, now_s).map_or(Ok(()), |wait_s| Err(Problem::too_many(wait_s)))
}

/// Refuses what is too long to be looked at.
pub(super) fn too_long(pointer: &str, text: &str) -> Result<(), Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let detail = format!("is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Problem::invalid(vec![FieldError::new(pointer, detail)]));
    }
    Ok(())
}

/// The user whose password was right.
fn judge_password(
    tenant: &mut Tenant,
    subject: Option<String>,
    user: Option<String>,
    now_s: u64,
) -> Result<String, Problem> {
    let wrong = || Problem::unauthorized("the address or the password is wrong");
    let Some(subject) = subject else { return user.ok_or_else(wrong) };
    not_throttled(tenant, &subject, now_s)?;
    match user {
        Some(_) => tenant.throttle.succeeded(&subject),
        None => tenant.throttle.failed(&subject, now_s),
    }
    user.ok_or_else(wrong)
}

fn prepare(shared: &Shared, tenant: &str, credentials: Credentials) -> Result<Attempt, Problem> {
    let Credentials { email, password, mfa_token, mfa_code } = credentials;
    too_long("/email", email.as_deref().unwrap_or_default())?;
    too_long("/password", password.as_deref().unwrap_or_default())?;
    too_long("/mfa_code", mfa_code.as_deref().unwrap_or_default())?;
    let missing = |pointer| Problem::invalid(vec![FieldError::new(pointer, "is missing")]);
    let now_s = shared.clock.now_s();
    let store = shared.store();
    let tenant = store.tenant(tenant)?;
    if let Some(token) = mfa_token {
        if mfa_code.is_none() {
            return Err(missing("/mfa_code"));
        }
        let user = tenant.tickets.user(token.as_bytes(), Purpose::Mfa, now_s);
        let user =
            user.ok_or_else(|| Problem::unauthorized("the MFA token is not valid; start again"))?.to_owned();
        let row = tenant.directory.user(&Scope::Tenant, &user)?;
        let backup = backup_derivation(row, mfa_code.as_deref());
        return Ok(Attempt { subject: None, user: Some(user), password: None, backup });
    }
    let email = email.ok_or_else(|| missing("/email"))?;
    let password = password.ok_or_else(|| missing("/password"))?;
    let subject = format!("password:{}", email.trim().to_ascii_lowercase());
    not_throttled(tenant, &subject, now_s)?;
    let row = tenant.directory.user_by_login(&email);
    let hash = match row.and_then(|row| row.password) {
        Some(hash) => hash,
        None => PasswordHash::of_nobody(shared.limits.password_rounds)?,
    };
    let backup = row.and_then(|row| backup_derivation(row, mfa_code.as_deref()));
    Ok(Attempt {
        subject: Some(subject),
        user: row.map(|row| row.id.clone()),
        password: Some((hash, password)),
        backup,
    })
}

/// How a code that is no TOTP code is to be looked at.
fn backup_derivation(user: &User, code: Option<&str>) -> Option<(Derivation, String)> {
    let code = code.filter(|code| !totp::is_code(code))?;
    user.mfa.backup_derivation().map(|derivation| (derivation, code.trim().to_ascii_lowercase()))
}

fn begin(tenant: &mut Tenant, user: &str, mfa: bool, now_s: u64, limits: Limits) -> Result<Tokens, Problem> {
    let strength = Strength { auth_time_s: now_s, mfa };
    let (sid, refresh_token, ended) = tenant.sessions.begin(user, strength, now_s, limits.session_ttl_s)?;
    if let Some(ended) = ended {
        let now = std::time::Duration::from_secs(now_s);
        tenant.revoke(portcullis_wire::RevokedClaim::Sid, &ended, None, now);
    }
    tokens(tenant, sid, refresh_token, now_s, limits)
}

fn tokens(
    tenant: &Tenant,
    sid: String,
    refresh_token: String,
    now_s: u64,
    limits: Limits,
) -> Result<Tokens, Problem> {
    let access_token = tenant.access_token(&sid, now_s, limits.access_token_ttl_s)?;
    Ok(Tokens {
        access_token,
        token_type: "Bearer",
        expires_in: limits.access_token_ttl_s,
        refresh_token,
        session_id: sid,
        mfa_encouraged: false,
    })
}
