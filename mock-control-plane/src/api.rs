//! The HTTP interface, one resource a module. Paths, fields and headers are those of the documented product.

mod agents;
mod auth;
mod bundle;
mod cloud;
mod directory;
mod faults;
mod inventory;
mod jwks;
mod keys;
mod logs;
mod mfa;
mod mint;
mod policies;
mod scim;
mod sessions;
mod tenant;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, delete, get, post};

use self::directory::{groups, orgs, roles, users};
use crate::Problem;
use crate::server::Shared;

/// All routes. `test_api` adds the mint, faults on demand, and the movable clock.
pub(crate) fn router(shared: Shared, test_api: bool) -> Router {
    let mut router =
        access().merge(management()).merge(identity()).merge(directory_routes()).merge(scim_routes());
    if test_api {
        router = router
            .route("/v1/{tenant}/test/mint", post(mint::mint))
            .route(
                "/manage/v1/{tenant}/test/faults",
                get(faults::list).post(faults::add).delete(faults::clear),
            )
            .route("/manage/v1/{tenant}/test/faults/{fault}", delete(faults::remove))
            .route("/manage/v1/{tenant}/test/clock", get(faults::clock).post(faults::move_clock));
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(from_fn_with_state(shared.clone(), crate::audit::note))
        .layer(from_fn_with_state(shared.clone(), crate::server::upkeep))
        .layer(from_fn_with_state(shared.clone(), crate::server::durable))
        .layer(from_fn_with_state(shared.clone(), crate::faults::apply))
        .layer(from_fn(crate::extract::whole_body))
        .with_state(shared)
}

/// Agents, policies, logs.
fn access() -> Router<Shared> {
    let access = |rest: &str| format!("/manage/v1/{{tenant}}/access/{rest}");
    Router::new()
        .route(&access("agents"), get(agents::list))
        .route(&access("agents/register"), post(agents::register))
        .route(&access("agents/{agent}"), delete(agents::remove))
        .route(&access("agents/{agent}/config"), get(bundle::get))
        .route(&access("agents/{agent}/bundle-key"), get(bundle::key))
        .route(&access("agents/{agent}/heartbeat"), post(inventory::heartbeat))
        .route(&access("agents/{agent}/services"), post(inventory::put_services))
        .route(&access("agents/{agent}/endpoints"), post(inventory::put_endpoints))
        .route(&access("services"), get(inventory::services))
        .route(&access("endpoints"), get(inventory::endpoints))
        .route(&access("policies"), get(policies::list).post(policies::create))
        .route(
            &access("policies/{policy}"),
            get(policies::get).put(policies::replace).delete(policies::delete),
        )
        .route(&access("logs"), get(logs::query).post(logs::ingest))
        .route(&access("logs/streams"), get(logs::streams))
}

/// A tenant's settings and keys.
fn management() -> Router<Shared> {
    let manage = |rest: &str| format!("/manage/v1/{{tenant}}/{rest}");
    Router::new()
        .route(&manage("tenant"), get(tenant::get).patch(tenant::change))
        .route(&manage("revocations"), get(tenant::revocations).post(tenant::revoke))
        .route(&manage("directory/sync-log"), get(tenant::sync_log))
        .route(&manage("audit"), get(tenant::audit))
        .route(&manage("cloud/mappings"), get(cloud::list).post(cloud::create))
        .route(&manage("cloud/mappings/{mapping}"), delete(cloud::remove))
        .route(&manage("cloud/bindings"), get(cloud::bindings))
        .route(&manage("scim/tokens"), get(scim::tokens::list).post(scim::tokens::create))
        .route(&manage("scim/tokens/{token}"), delete(scim::tokens::remove))
        .route(&manage("keys"), get(keys::list).post(keys::add))
        .route(&manage("keys/rotate"), post(keys::rotate))
        .route(
            &manage("keys/rotation"),
            get(keys::schedule).put(keys::set_schedule).delete(keys::end_schedule),
        )
        .route(&manage("keys/{kid}"), delete(keys::retire))
        .route(&manage("keys/{kid}/activate"), post(keys::activate))
        .route(&manage("keys/{kid}/revoke"), post(keys::revoke))
}

/// What users do for themselves.
fn identity() -> Router<Shared> {
    let tenant = |rest: &str| format!("/v1/{{tenant}}/{rest}");
    Router::new()
        .route(&tenant(".well-known/jwks.json"), get(jwks::get))
        .route(&tenant(".well-known/openid-configuration"), get(jwks::discovery))
        .route(&tenant("auth/login"), post(auth::login))
        .route(&tenant("auth/refresh"), post(auth::refresh))
        .route(&tenant("auth/step-up"), post(auth::step_up))
        .route(&tenant("auth/logout"), post(sessions::logout))
        .route(&tenant("auth/sessions"), get(sessions::list).delete(sessions::end_all))
        .route(&tenant("auth/sessions/{session}"), delete(sessions::end))
        .route(&tenant("userinfo"), get(sessions::userinfo))
        .route(&tenant("mfa/enroll"), post(mfa::enroll))
        .route(&tenant("mfa/verify"), post(mfa::verify))
        .route(&tenant("mfa/factors"), get(mfa::factors))
        .route(&tenant("mfa/unenroll"), post(mfa::unenroll))
}

/// Organisations, users, groups, roles.
fn directory_routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/orgs", get(orgs::list).post(orgs::create))
        .route("/api/v1/orgs/{org}", get(orgs::get).patch(orgs::change))
        .route("/api/v1/orgs/{org}/admins", post(orgs::add_admin))
        .route("/api/v1/orgs/{org}/admins/{user}", delete(orgs::remove_admin))
        .route("/api/v1/users", get(users::list).post(users::create))
        .route("/api/v1/users/{user}", get(users::get).patch(users::change).delete(users::remove))
        .route("/api/v1/users/{user}/permissions", get(users::permissions))
        .route("/api/v1/users/{user}/roles", post(users::add_role))
        .route("/api/v1/users/{user}/roles/{role}", delete(users::remove_role))
        .route("/api/v1/users/{user}/sessions", delete(users::end_sessions))
        .route("/api/v1/groups", get(groups::list).post(groups::create))
        .route("/api/v1/groups/{group}", get(groups::get).put(groups::replace).delete(groups::remove))
        .route("/api/v1/groups/{group}/roles", post(groups::add_role))
        .route("/api/v1/groups/{group}/roles/{role}", delete(groups::remove_role))
        .route("/api/v1/groups/{group}/members", post(groups::add_member))
        .route("/api/v1/groups/{group}/members/{user}", delete(groups::remove_member))
        .route("/api/v1/roles", get(roles::list).post(roles::create))
        .route("/api/v1/roles/{role}", get(roles::get).put(roles::replace).delete(roles::remove))
        .route("/api/v1/permissions", get(roles::permissions))
}

/// SCIM 2.0.
fn scim_routes() -> Router<Shared> {
    use self::scim::{groups, meta, users};
    let base = |rest: &str| format!("/scim/v2/{{tenant}}/{rest}");
    Router::new()
        .route(&base("ServiceProviderConfig"), get(meta::config))
        .route(&base("ResourceTypes"), get(meta::resource_types))
        .route(&base("ResourceTypes/{id}"), get(meta::resource_type))
        .route(&base("Schemas"), get(meta::all_schemas))
        .route(&base("Schemas/{id}"), get(meta::schema))
        .route(&base("Users"), get(users::list).post(users::create))
        .route(&base("Users/.search"), post(users::search))
        .route(
            &base("Users/{id}"),
            get(users::get).put(users::replace).patch(users::patch).delete(users::remove),
        )
        .route(&base("Groups"), get(groups::list).post(groups::create))
        .route(&base("Groups/.search"), post(groups::search))
        .route(
            &base("Groups/{id}"),
            get(groups::get).put(groups::replace).patch(groups::patch).delete(groups::remove),
        )
        .route(&base(".search"), post(meta::search))
        .route(&base("Bulk"), post(meta::not_offered))
        .route(&base("Me"), any(meta::not_offered))
        .route(&base("{*rest}"), any(meta::no_route))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::not_found(format!("no resource at `{}`", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::method(format!("`{method}` is not offered at `{}`", uri.path()))
}
