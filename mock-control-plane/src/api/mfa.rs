//! The second factor of the user who asks: enrol, verify, list, unenrol.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::auth::{NoStore, code_subject, not_throttled, too_long};
use crate::directory::Scope;
use crate::extract::{Body, Caller, bearer, tenant_of};
use crate::identity::PRODUCT;
use crate::mfa::BackupCodes;
use crate::password::{Derivation, off_thread};
use crate::server::Shared;
use crate::session::Strength;
use crate::ticket::Purpose;
use crate::{Problem, qr};

/// A user who may enrol: one who is logged in, or one who cannot log in before that.
pub(crate) struct Enrollee {
    tenant: String,
    user: String,
    sid: Option<String>,
}

/// A code.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: String,
}

/// A factor and its code.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unenroll {
    factor_id: String,
    code: String,
}

/// A factor to be verified. Its secret is shown this once.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Enrolled {
    factor_id: String,
    /// `totp`
    #[serde(rename = "type")]
    kind: &'static str,
    /// Base32, for those who type it.
    secret: String,
    /// The key URI: `otpauth://totp/…`
    uri: String,
    /// The same as a picture: a `data:` URI of a PNG.
    qr_code: String,
}

/// The factor counts. Its backup codes are shown this once.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Verified {
    verified: bool,
    backup_codes: Vec<String>,
}

/// A second factor.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FactorAnswer {
    factor_id: String,
    /// `totp`
    #[serde(rename = "type")]
    kind: &'static str,
    verified: bool,
    /// Seconds since the epoch.
    created_at: u64,
    backup_codes_left: usize,
}

/// Second factors.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Factors {
    factors: Vec<FactorAnswer>,
}

/// The factor is gone.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Unenrolled {
    unenrolled: bool,
}

/// Backup codes have 41 bits, passwords have what people give them: the tenth of the work is more than enough.
const BACKUP_SHARE: u32 = 10;

/// `POST /v1/{tenant}/mfa/enroll`
pub(super) async fn enroll(
    State(shared): State<Shared>,
    enrollee: Enrollee,
) -> Result<NoStore<Enrolled>, Problem> {
    let Enrollee { tenant, user, sid: _ } = enrollee;
    let (factor_id, secret, uri) = {
        let mut store = shared.store();
        let directory = &mut store.tenant_mut(&tenant)?.directory;
        let row = directory.user(&Scope::Tenant, &user)?;
        let account = row.email().unwrap_or(&row.user_name).to_owned();
        let factor = directory.mfa_mut(&user)?.enroll(shared.clock.now_s())?;
        (factor.id.clone(), factor.secret.base32(), factor.secret.uri(PRODUCT, &account))
    };
    let qr_code = qr::data_uri(&uri)?;
    Ok(NoStore(Enrolled { factor_id, kind: "totp", secret, uri, qr_code }))
}

/// `POST /v1/{tenant}/mfa/verify`: the factor counts from now on; the backup codes are shown this once.
pub(super) async fn verify(
    State(shared): State<Shared>,
    enrollee: Enrollee,
    Body(Code { code }): Body<Code>,
) -> Result<NoStore<Verified>, Problem> {
    too_long("/code", &code)?;
    let Enrollee { tenant, user, sid } = enrollee;
    {
        // Backup codes cost work: nobody gets it done who has no factor to verify, or has to wait.
        let store = shared.store();
        let tenant = store.tenant(&tenant)?;
        let factor = tenant.directory.user(&Scope::Tenant, &user)?.mfa.factor();
        if factor.is_none_or(|factor| factor.verified) {
            return Err(Problem::conflict(
                "there is no factor to verify; enrol one with `POST …/mfa/enroll`",
            ));
        }
        not_throttled(tenant, &code_subject(&user), shared.clock.now_s())?;
    }
    let rounds = shared.limits.password_rounds;
    let rounds = std::num::NonZeroU32::new(rounds.get() / BACKUP_SHARE).unwrap_or(rounds);
    let (backup, codes) = off_thread(move || BackupCodes::generate(Derivation::new(rounds)?)).await??;
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&tenant)?;
    let subject = code_subject(&user);
    not_throttled(tenant, &subject, now_s)?;
    if !tenant.directory.mfa_mut(&user)?.verify(&code, now_s, backup) {
        tenant.throttle.failed(&subject, now_s);
        return Err(Problem::unauthorized("the code is wrong"));
    }
    tenant.throttle.succeeded(&subject);
    tenant.tickets.spend(&user, Purpose::Enroll);
    if let Some(session) = sid.and_then(|sid| tenant.sessions.get_mut(&sid, now_s)) {
        // The code was shown in this session: its next token says so.
        session.strength = Strength { auth_time_s: now_s, mfa: true };
    }
    Ok(NoStore(Verified { verified: true, backup_codes: codes }))
}

/// `GET /v1/{tenant}/mfa/factors`
pub(super) async fn factors(State(shared): State<Shared>, caller: Caller) -> Result<Json<Factors>, Problem> {
    let store = shared.store();
    let mfa = &store.tenant(&caller.tenant)?.directory.user(&Scope::Tenant, &caller.bearer.user)?.mfa;
    let answer = mfa.factor().map(|factor| FactorAnswer {
        factor_id: factor.id.clone(),
        kind: "totp",
        verified: factor.verified,
        created_at: factor.created_s,
        backup_codes_left: mfa.backup_left(),
    });
    Ok(Json(Factors { factors: answer.into_iter().collect() }))
}

/// `POST /v1/{tenant}/mfa/unenroll`
pub(super) async fn unenroll(
    State(shared): State<Shared>,
    caller: Caller,
    Body(Unenroll { factor_id, code }): Body<Unenroll>,
) -> Result<Json<Unenrolled>, Problem> {
    let user = &caller.bearer.user;
    let now_s = shared.clock.now_s();
    let mut store = shared.store();
    let tenant = store.tenant_mut(&caller.tenant)?;
    let subject = code_subject(user);
    not_throttled(tenant, &subject, now_s)?;
    if !tenant.directory.mfa_mut(user)?.unenroll(&factor_id, &code, now_s)? {
        tenant.throttle.failed(&subject, now_s);
        return Err(Problem::unauthorized("the code is wrong, or was used before"));
    }
    tenant.throttle.succeeded(&subject);
    Ok(Json(Unenrolled { unenrolled: true }))
}

// === impl Enrollee ===

impl FromRequestParts<Shared> for Enrollee {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let tenant = tenant_of(parts, shared).await?;
        let presented = bearer(&parts.headers).unwrap_or_default().to_vec();
        let now_s = shared.clock.now_s();
        let store = shared.store();
        if let Ok(row) = store.tenant(&tenant) {
            if let Some(bearer) = row.bearer(&presented, now_s) {
                return Ok(Enrollee { tenant, user: bearer.user, sid: Some(bearer.sid) });
            }
            if let Some(user) = row.tickets.user(&presented, Purpose::Enroll, now_s) {
                return Ok(Enrollee { user: user.to_owned(), tenant, sid: None });
            }
        }
        Err(Problem::unauthorized("send an access token, or an enrollment token, as `Authorization: Bearer`"))
    }
}
