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
use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use serde_json::Value;

pub(crate) use self::auth::NoStore;
pub(crate) use self::mfa::Enrollee;
pub(crate) use self::policies::publish;
pub(crate) use self::scim::{Provisioner, ScimBody, ScimQuery};

use self::directory::{groups, orgs, roles, users};
use crate::Problem;
use crate::openapi::Routes;
use crate::scim::{ScimError, ScimKind};
use crate::server::Shared;

/// Serves and describes routes, one a line.
macro_rules! serve {
    ($routes:expr, $base:literal; $($method:ident $path:literal $status:ident $summary:literal $handler:path;)+) => {{
        let routes = $routes;
        $(
            let path = concat!($base, $path);
            let routes = routes.on(Method::$method, path, StatusCode::$status, $summary, $handler);
        )+
        routes
    }};
}

/// All routes. `test_api` adds the mint, faults on demand, and the movable clock.
pub(crate) fn router(shared: Shared, test_api: bool) -> Router {
    let (router, document) = routes(test_api);
    let document = Bytes::from(document.to_string());
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    router
        .route("/openapi.json", get(async move || (json, document)))
        // Below SCIM's base everything is answered as SCIM does.
        .route("/scim/v2/{tenant}/{*rest}", any(scim::meta::no_route))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(from_fn_with_state(shared.clone(), crate::audit::note))
        .layer(from_fn_with_state(shared.clone(), crate::server::upkeep))
        .layer(from_fn_with_state(shared.clone(), crate::server::durable))
        .layer(from_fn_with_state(shared.clone(), crate::faults::apply))
        .layer(from_fn(crate::extract::whole_body))
        .with_state(shared)
}

/// The OpenAPI 3.1 description of the interface, the test interface included.
#[must_use]
pub fn openapi() -> Value {
    routes(true).1
}

fn routes(test_api: bool) -> (Router<Shared>, Value) {
    let routes = access(Routes::new());
    let routes = scim_routes(directory_routes(identity(management(routes))));
    let routes = if test_api { test_routes(routes) } else { routes };
    routes.finish()
}

/// What tests need: a mint, faults on demand, a movable clock.
fn test_routes(routes: Routes) -> Routes {
    serve! { routes, "";
        POST "/v1/{tenant}/test/mint" OK "Mints a token with any claims, or a broken one" mint::mint;
        GET "/manage/v1/{tenant}/test/faults" OK "Faults that are to show" faults::list;
        POST "/manage/v1/{tenant}/test/faults" CREATED "Adds a fault" faults::add;
        DELETE "/manage/v1/{tenant}/test/faults" NO_CONTENT "Takes all faults back" faults::clear;
        DELETE "/manage/v1/{tenant}/test/faults/{fault}" NO_CONTENT "Takes a fault back" faults::remove;
        GET "/manage/v1/{tenant}/test/clock" OK "The clock" faults::clock;
        POST "/manage/v1/{tenant}/test/clock" OK "Moves the clock" faults::move_clock;
    }
}

/// Agents, policies, logs.
fn access(routes: Routes) -> Routes {
    serve! { routes, "/manage/v1/{tenant}/access/";
        GET "agents" OK "Agents" agents::list;
        POST "agents/register" CREATED "Registers an agent; its secret is shown once" agents::register;
        DELETE "agents/{agent}" NO_CONTENT "Removes an agent: its secret is no good any more" agents::remove;
        GET "agents/{agent}/config" OK "The configuration bundle, signed; waits for a change with `Prefer: wait=N`" bundle::get;
        GET "agents/{agent}/bundle-key" OK "The key that bundles are signed with" bundle::key;
        POST "agents/{agent}/heartbeat" OK "A sign of life" inventory::heartbeat;
        POST "agents/{agent}/services" NO_CONTENT "Reports the services of the host" inventory::put_services;
        POST "agents/{agent}/endpoints" NO_CONTENT "Reports endpoints seen in traffic" inventory::put_endpoints;
        GET "services" OK "Services of all agents" inventory::services;
        GET "endpoints" OK "Endpoints of all agents" inventory::endpoints;
        GET "policies" OK "Policies" policies::list;
        POST "policies" CREATED "Creates a policy" policies::create;
        GET "policies/{policy}" OK "A policy" policies::get;
        PUT "policies/{policy}" OK "Replaces a policy" policies::replace;
        DELETE "policies/{policy}" NO_CONTENT "Deletes a policy" policies::delete;
        GET "candidate" OK "Policies on trial" policies::candidate;
        PUT "candidate" OK "Puts policies on trial beside the live ones, in the place of others" policies::try_candidate;
        DELETE "candidate" NO_CONTENT "Ends the trial" policies::end_trial;
        GET "logs" OK "Queries the access log: newest first, or oldest first from a number on" logs::query;
        POST "logs" ACCEPTED "Takes records of the access log; a numbered batch counts once" logs::ingest;
        GET "logs/streams" OK "How far the records of each agent came" logs::streams;
    }
}

/// A tenant's settings and keys.
fn management(routes: Routes) -> Routes {
    serve! { routes, "/manage/v1/{tenant}/";
        GET "tenant" OK "Settings of the tenant" tenant::get;
        PATCH "tenant" OK "Changes settings of the tenant" tenant::change;
        GET "revocations" OK "Revocations in force" tenant::revocations;
        POST "revocations" CREATED "Revokes tokens" tenant::revoke;
        GET "directory/sync-log" OK "The sync log, newest first" tenant::sync_log;
        GET "audit" OK "Attempts to reach what belongs to another organisation, newest first" tenant::audit;
        GET "cloud/mappings" OK "Roles of groups at cloud providers" cloud::list;
        POST "cloud/mappings" CREATED "Gives a group a role at a cloud provider" cloud::create;
        DELETE "cloud/mappings/{mapping}" NO_CONTENT "Takes a role of a group back" cloud::remove;
        GET "cloud/bindings" OK "What the simulated cloud providers have" cloud::bindings;
        GET "scim/tokens" OK "Tokens of provisioning directories" scim::tokens::list;
        POST "scim/tokens" CREATED "Makes a token for a provisioning directory; it is shown once" scim::tokens::create;
        DELETE "scim/tokens/{token_id}" NO_CONTENT "Removes a token of a provisioning directory" scim::tokens::remove;
        GET "keys" OK "Signing keys" keys::list;
        POST "keys" CREATED "Publishes a key that does not sign yet" keys::add;
        POST "keys/rotate" CREATED "Publishes a key that signs from now on" keys::rotate;
        GET "keys/rotation" OK "The schedule by which keys rotate" keys::schedule;
        PUT "keys/rotation" OK "Sets the schedule by which keys rotate" keys::set_schedule;
        DELETE "keys/rotation" NO_CONTENT "Ends the schedule by which keys rotate" keys::end_schedule;
        DELETE "keys/{kid}" NO_CONTENT "Takes a key away that does not sign" keys::retire;
        POST "keys/{kid}/activate" OK "Lets a key sign from now on" keys::activate;
        POST "keys/{kid}/revoke" OK "Takes a key away at once, in an emergency" keys::revoke;
    }
}

/// What users do for themselves.
fn identity(routes: Routes) -> Routes {
    serve! { routes, "/v1/{tenant}/";
        GET ".well-known/jwks.json" OK "The public keys (RFC 7517)" jwks::get;
        GET ".well-known/openid-configuration" OK "The provider's metadata (OpenID Connect Discovery 1.0)" jwks::discovery;
        POST "auth/login" OK "Logs in with a password, and a code where one is needed" auth::login;
        POST "auth/refresh" OK "New tokens for a refresh token" auth::refresh;
        POST "auth/step-up" OK "A token with a fresh second factor" auth::step_up;
        POST "auth/logout" NO_CONTENT "Ends this session" sessions::logout;
        GET "auth/sessions" OK "Sessions of the user" sessions::list;
        DELETE "auth/sessions" NO_CONTENT "Ends all sessions of the user" sessions::end_all;
        DELETE "auth/sessions/{session}" NO_CONTENT "Ends a session of the user" sessions::end;
        GET "userinfo" OK "Who the user is (OpenID Connect Core 1.0 section 5.3)" sessions::userinfo;
        POST "mfa/enroll" OK "Makes a TOTP secret, to be verified" mfa::enroll;
        POST "mfa/verify" OK "Verifies the TOTP secret; the backup codes are shown once" mfa::verify;
        GET "mfa/factors" OK "Second factors of the user" mfa::factors;
        POST "mfa/unenroll" OK "Takes a second factor away" mfa::unenroll;
    }
}

/// Organisations, users, groups, roles.
fn directory_routes(routes: Routes) -> Routes {
    serve! { routes, "/api/v1/";
        GET "orgs" OK "Organisations" orgs::list;
        POST "orgs" CREATED "Creates an organisation" orgs::create;
        GET "orgs/{org}" OK "An organisation" orgs::get;
        PATCH "orgs/{org}" OK "Changes an organisation" orgs::change;
        POST "orgs/{org}/admins" OK "Makes a user an administrator" orgs::add_admin;
        DELETE "orgs/{org}/admins/{user}" NO_CONTENT "Makes an administrator a user like others" orgs::remove_admin;
        GET "users" OK "Users" users::list;
        POST "users" CREATED "Creates a user" users::create;
        GET "users/{user}" OK "A user" users::get;
        PATCH "users/{user}" OK "Changes a user" users::change;
        DELETE "users/{user}" NO_CONTENT "Deletes a user" users::remove;
        GET "users/{user}/permissions" OK "What a user may do, and why" users::permissions;
        POST "users/{user}/roles" CREATED "Gives a user a role" users::add_role;
        DELETE "users/{user}/roles/{role}" NO_CONTENT "Takes a role from a user" users::remove_role;
        DELETE "users/{user}/sessions" OK "Ends all sessions of a user" users::end_sessions;
        GET "groups" OK "Groups" groups::list;
        POST "groups" CREATED "Creates a group" groups::create;
        GET "groups/{group}" OK "A group" groups::get;
        PUT "groups/{group}" OK "Replaces a group" groups::replace;
        DELETE "groups/{group}" NO_CONTENT "Deletes a group" groups::remove;
        POST "groups/{group}/roles" CREATED "Gives a group a role" groups::add_role;
        DELETE "groups/{group}/roles/{role}" NO_CONTENT "Takes a role from a group" groups::remove_role;
        POST "groups/{group}/members" NO_CONTENT "Puts a user into a group" groups::add_member;
        DELETE "groups/{group}/members/{user}" NO_CONTENT "Takes a user out of a group" groups::remove_member;
        GET "roles" OK "Roles" roles::list;
        POST "roles" CREATED "Creates a role" roles::create;
        GET "roles/{role}" OK "A role" roles::get;
        PUT "roles/{role}" OK "Replaces a role" roles::replace;
        DELETE "roles/{role}" NO_CONTENT "Deletes a role" roles::remove;
        GET "permissions" OK "Permissions, with the roles that grant them" roles::permissions;
    }
}

/// SCIM 2.0.
fn scim_routes(routes: Routes) -> Routes {
    use self::scim::{groups, meta, users};
    serve! { routes, "/scim/v2/{tenant}/";
        GET "ServiceProviderConfig" OK "What this provider can do (RFC 7643 section 5)" meta::config;
        GET "ResourceTypes" OK "Resource types" meta::resource_types;
        GET "ResourceTypes/{id}" OK "A resource type" meta::resource_type;
        GET "Schemas" OK "Schemas" meta::all_schemas;
        GET "Schemas/{id}" OK "A schema" meta::schema;
        GET "Users" OK "Users" users::list;
        POST "Users" CREATED "Creates a user" users::create;
        POST "Users/.search" OK "Finds users" users::search;
        GET "Users/{id}" OK "A user" users::get;
        PUT "Users/{id}" OK "Replaces a user" users::replace;
        PATCH "Users/{id}" OK "Changes a user (RFC 7644 section 3.5.2)" users::patch;
        DELETE "Users/{id}" NO_CONTENT "Deletes a user" users::remove;
        GET "Groups" OK "Groups" groups::list;
        POST "Groups" CREATED "Creates a group" groups::create;
        POST "Groups/.search" OK "Finds groups" groups::search;
        GET "Groups/{id}" OK "A group" groups::get;
        PUT "Groups/{id}" OK "Replaces a group" groups::replace;
        PATCH "Groups/{id}" OK "Changes a group (RFC 7644 section 3.5.2)" groups::patch;
        DELETE "Groups/{id}" NO_CONTENT "Deletes a group" groups::remove;
        POST ".search" OK "Finds users and groups" meta::search;
        POST "Bulk" NOT_IMPLEMENTED "Not offered" meta::not_offered;
        GET "Me" NOT_IMPLEMENTED "Not offered" meta::not_offered;
        POST "Me" NOT_IMPLEMENTED "Not offered" meta::not_offered;
        PUT "Me" NOT_IMPLEMENTED "Not offered" meta::not_offered;
        PATCH "Me" NOT_IMPLEMENTED "Not offered" meta::not_offered;
        DELETE "Me" NOT_IMPLEMENTED "Not offered" meta::not_offered;
    }
}

async fn no_route(uri: Uri) -> Problem {
    Problem::not_found(format!("no resource at `{}`", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let detail = format!("`{method}` is not offered at `{}`", uri.path());
    if uri.path().starts_with("/scim/") {
        return ScimError::new(ScimKind::MethodNotAllowed, detail).into_response();
    }
    Problem::method(detail).into_response()
}
