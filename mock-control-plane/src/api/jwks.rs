//! The published key set, RFC 7517 section 5, and the OpenID Provider's metadata that leads to it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::IntoResponse as _;
use portcullis_wire::JwkSet;
use serde::Serialize;

use crate::Problem;
use crate::openapi::Said;
use crate::server::Shared;

/// Metadata of the provider.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Metadata {
    issuer: String,
    jwks_uri: String,
    userinfo_endpoint: String,
    response_types_supported: [&'static str; 0],
    grant_types_supported: [&'static str; 0],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 2],
    claims_supported: [&'static str; 20],
    acr_values_supported: [&'static str; 0],
}

/// `GET /v1/{tenant}/.well-known/jwks.json`
pub(super) async fn get(
    State(shared): State<Shared>,
    Path(tenant): Path<String>,
    uri: Uri,
) -> Result<Said<JwkSet>, Problem> {
    let mut jwks = shared.store().tenant(&tenant)?.keys.jwks();
    shared.faults.distort_keys(uri.path(), &mut jwks);
    let mut jwks = serde_json::to_value(jwks).map_err(|e| Problem::internal(format!("keys: {e}")))?;
    shared.faults.spoil_keys(uri.path(), &mut jwks);
    let headers = [(header::CACHE_CONTROL, "public, max-age=60")];
    Ok((headers, Json(jwks)).into_response().into())
}

/// `GET /v1/{tenant}/.well-known/openid-configuration`: OpenID Connect Discovery 1.0 section 3. There is no redirect
/// flow, hence no authorization endpoint and no response type.
pub(super) async fn discovery(
    State(shared): State<Shared>,
    Path(tenant): Path<String>,
) -> Result<Json<Metadata>, Problem> {
    let store = shared.store();
    let issuer = &store.tenant(&tenant)?.issuer;
    Ok(Json(Metadata {
        issuer: issuer.clone(),
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        userinfo_endpoint: format!("{issuer}/userinfo"),
        response_types_supported: [],
        grant_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256", "ES256"],
        claims_supported: [
            "sub",
            "email",
            "email_verified",
            "name",
            "tenant_id",
            "org_id",
            "org_slug",
            "org_role",
            "roles",
            "permissions",
            "groups",
            "sid",
            "jti",
            "amr",
            "auth_time",
            "mfa_verified",
            "iat",
            "exp",
            "iss",
            "aud",
        ],
        acr_values_supported: [],
    }))
}
