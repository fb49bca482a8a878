//! The routes and their OpenAPI 3.1 description, from one list: what a route takes, from whom, and what it answers is read
//! off its handler's types. So a route cannot be served and not described.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use axum::extract::{Path, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Json, Router};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::Problem;
use crate::extract::{Agent, Body, Caller, Manager, Query, Registrar};
use crate::scim::ScimError;
use crate::server::Shared;

/// Routes, with what is told about them.
pub(crate) struct Routes {
    router: Router<Shared>,
    /// Operations by path and method.
    paths: BTreeMap<String, Map<String, Value>>,
    schemas: SchemaGenerator,
}

/// What is told about one route.
#[derive(Default)]
pub(crate) struct Operation {
    parameters: Vec<Value>,
    body: Option<Value>,
    /// Alternatives; empty: none is needed.
    security: Vec<&'static str>,
}

/// What a handler's parameter says about its route.
pub(crate) trait Describe {
    /// Adds it.
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator);
}

/// What a handler answers with when it goes well.
pub(crate) trait Answers {
    /// Media type and schema; `None`: it has no body, or the body has no schema.
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)>;

    /// Media type and schema of what it answers when it does not go well.
    fn error() -> (&'static str, &'static str) {
        ("application/problem+json", "Problem")
    }
}

/// A response that a handler made itself, whose body is a `T` as JSON: `T` is what the description says of it.
pub(crate) struct Said<T>(Response, PhantomData<T>);

/// What is told about a handler: its parameters, its answer, its errors.
pub(crate) struct Description {
    operation: Operation,
    content: Option<(&'static str, Value)>,
    error: (&'static str, &'static str),
}

/// A function whose route can be described; `T` are its parameters.
pub(crate) trait Described<T> {
    /// What its types say.
    fn described(schemas: &mut SchemaGenerator) -> Description;
}

/// Security schemes by name.
const API_KEY: &str = "ApiKey";
const AGENT: &str = "AgentSecret";
const USER: &str = "AccessToken";
const SCIM: &str = "ScimToken";

// === impl Routes ===

impl Routes {
    /// None.
    pub(crate) fn new() -> Routes {
        let settings =
            SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
        Routes { router: Router::new(), paths: BTreeMap::new(), schemas: settings.into_generator() }
    }

    /// Serves `method` on `path` by `handler`, which answers with `status` when it goes well.
    pub(crate) fn on<H, T, D>(
        mut self,
        method: Method,
        path: &str,
        status: StatusCode,
        summary: &str,
        handler: H,
    ) -> Routes
    where
        H: Handler<T, Shared> + Described<D>,
        T: 'static,
    {
        let Description { operation, content, error } = H::described(&mut self.schemas);
        let name = method.as_str().to_ascii_lowercase();
        let operation = operation.show(&method, path, status, summary, content, error);
        let before = self.paths.entry(path.to_owned()).or_default().insert(name, operation);
        assert!(before.is_none(), "{method} {path} has two handlers");
        let filter = MethodFilter::try_from(method).expect("a method that routes can have");
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    /// The routes, and the document about them.
    pub(crate) fn finish(mut self) -> (Router<Shared>, Value) {
        // Named by every operation.
        self.schemas.subschema_for::<Problem>();
        let mut schemas = self.schemas.take_definitions(true);
        schemas.insert("ScimError".to_owned(), scim_error());
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Portcullis mock control plane",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "A control plane for tests, scenarios and demonstrations. Errors are problem documents \
                    (RFC 9457), those of SCIM are SCIM's (RFC 7644 section 3.12).",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    API_KEY: { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                    AGENT: bearer("The secret of an agent, from its registration."),
                    USER: bearer("An access token, from a login; where one enrols, an enrollment token too."),
                    SCIM: bearer("A token for a provisioning directory."),
                },
            },
        });
        (self.router, document)
    }
}

// === impl Operation ===

impl Operation {
    fn show(
        mut self,
        method: &Method,
        path: &str,
        status: StatusCode,
        summary: &str,
        content: Option<(&'static str, Value)>,
        error: (&'static str, &'static str),
    ) -> Value {
        let names = path.split(['{', '}']).skip(1).step_by(2);
        let names = names.map(|name| {
            json!({
                "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 },
            })
        });
        self.parameters.splice(0..0, names);
        let mut answer = json!({ "description": status.canonical_reason().unwrap_or_default() });
        if let Some((media, schema)) = content.filter(|_| status != StatusCode::NO_CONTENT) {
            answer["content"] = json!({ media: { "schema": schema } });
        }
        let (media, schema) = error;
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        let error = json!({ "description": "It cannot be done", "content": { media: { "schema": schema } } });
        let mut operation = json!({
            "operationId": operation_id(method, path),
            "summary": summary,
            "tags": [tag(path)],
            "parameters": self.parameters,
            "responses": { status.as_str(): answer, "4XX": error, "5XX": error },
        });
        if path.ends_with("/config") || path.contains("/scim/v2/") && *method == Method::GET {
            operation["responses"]["304"] = json!({ "description": "The client has it" });
        }
        if let Some(schema) = self.body {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        operation["security"] = self.security.iter().map(|name| json!({ *name: [] })).collect();
        operation
    }

    fn parameters_of<T: JsonSchema>(&mut self, schemas: &mut SchemaGenerator) {
        let schema = T::json_schema(schemas).to_value();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            // Absent is how a query says null.
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            without_null(&mut schema);
            let mut parameter = json!({ "name": name, "in": "query", "required": false, "schema": schema });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            self.parameters.push(parameter);
        }
    }
}

fn without_null(schema: &mut Value) {
    if let Some(types) = schema.get("type").and_then(Value::as_array) {
        let types: Vec<Value> = types.iter().filter(|name| **name != "null").cloned().collect();
        schema["type"] = if let [one] = types.as_slice() { one.clone() } else { json!(types) };
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let any: Vec<Value> = any.iter().filter(|one| one["type"] != "null").cloned().collect();
        *schema = if let [one] = any.as_slice() { one.clone() } else { json!({ "anyOf": any }) };
    }
}

/// `get_manage_v1_tenant_keys_kid`
fn operation_id(method: &Method, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    format!("{}_{}", method.as_str().to_ascii_lowercase(), words.join("_"))
}

fn tag(path: &str) -> &'static str {
    let tags = [
        ("/test/", "Test interface"),
        ("/manage/v1/{tenant}/access/", "Access"),
        ("/manage/", "Management"),
        ("/api/v1/", "Directory"),
        ("/scim/", "SCIM"),
        ("/mfa/", "MFA"),
        ("/v1/", "Identity"),
    ];
    tags.into_iter().find(|(part, _)| path.contains(part)).map_or("Other", |(_, tag)| tag)
}

fn bearer(description: &str) -> Value {
    json!({ "type": "http", "scheme": "bearer", "description": description })
}

fn scim_error() -> Value {
    json!({
        "type": "object",
        "description": "RFC 7644 section 3.12",
        "required": ["schemas", "status", "detail"],
        "properties": {
            "schemas": { "type": "array", "items": { "type": "string" } },
            "status": { "type": "string" },
            "scimType": { "type": "string" },
            "detail": { "type": "string" },
        },
    })
}

// === impl Describe ===

macro_rules! says_nothing {
    ($($type:ty),+) => { $(
        impl Describe for $type {
            fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
        }
    )+ };
}

macro_rules! needs {
    ($($type:ty: $($scheme:expr),+;)+) => { $(
        impl Describe for $type {
            fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
                operation.security.extend([$($scheme),+]);
            }
        }
    )+ };
}

says_nothing!(State<Shared>, Uri, Method, HeaderMap);
needs! {
    Manager: API_KEY;
    Agent: AGENT;
    Caller: USER;
    Registrar: API_KEY, USER;
    crate::api::Enrollee: USER;
    crate::api::Provisioner: SCIM;
}

/// The path has them already.
impl<T> Describe for Path<T> {
    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

impl<T: JsonSchema> Describe for Body<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.body = Some(schemas.subschema_for::<T>().to_value());
    }
}

impl<T: JsonSchema> Describe for Query<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.parameters_of::<T>(schemas);
    }
}

impl<T: JsonSchema> Describe for crate::api::ScimBody<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.body = Some(schemas.subschema_for::<T>().to_value());
    }
}

impl<T: JsonSchema> Describe for crate::api::ScimQuery<T> {
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.parameters_of::<T>(schemas);
    }
}

// === impl Said ===

impl<T> From<Response> for Said<T> {
    fn from(response: Response) -> Said<T> {
        Said(response, PhantomData)
    }
}

impl<T> IntoResponse for Said<T> {
    fn into_response(self) -> Response {
        self.0
    }
}

// === impl Answers ===

impl Answers for StatusCode {
    fn content(_: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        None
    }
}

impl<T: JsonSchema> Answers for Json<T> {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        let schema = schemas.subschema_for::<T>().to_value();
        assert!(schema.is_object(), "an answer of which nothing is known: give it a type");
        Some(("application/json", schema))
    }
}

impl<T: JsonSchema> Answers for Said<T> {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        Json::<T>::content(schemas)
    }
}

impl<T: JsonSchema> Answers for crate::api::NoStore<T> {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        Json::<T>::content(schemas)
    }
}

impl<T: JsonSchema> Answers for (StatusCode, Json<T>) {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        Json::<T>::content(schemas)
    }
}

impl<T: JsonSchema, H> Answers for (StatusCode, H, Json<T>) {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        Json::<T>::content(schemas)
    }
}

impl<T: Answers> Answers for Result<T, Problem> {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        T::content(schemas)
    }
}

impl<T: Answers> Answers for Result<T, ScimError> {
    fn content(schemas: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        T::content(schemas).map(|(_, schema)| (SCIM_MEDIA, schema))
    }

    fn error() -> (&'static str, &'static str) {
        (SCIM_MEDIA, "ScimError")
    }
}

/// A handler that always refuses.
impl Answers for ScimError {
    fn content(_: &mut SchemaGenerator) -> Option<(&'static str, Value)> {
        Some((SCIM_MEDIA, json!({ "$ref": "#/components/schemas/ScimError" })))
    }

    fn error() -> (&'static str, &'static str) {
        (SCIM_MEDIA, "ScimError")
    }
}

const SCIM_MEDIA: &str = "application/scim+json";

// === impl Described ===

macro_rules! described {
    ($($parameter:ident)*) => {
        impl<F, Answer, $($parameter),*> Described<($($parameter,)*)> for F
        where
            F: FnOnce($($parameter),*) -> Answer,
            Answer: Future,
            Answer::Output: Answers,
            $($parameter: Describe,)*
        {
            fn described(schemas: &mut SchemaGenerator) -> Description {
                let mut operation = Operation::default();
                $($parameter::describe(&mut operation, schemas);)*
                let content = Answer::Output::content(schemas);
                Description { operation, content, error: Answer::Output::error() }
            }
        }
    };
}

described!(A);
described!(A B);
described!(A B C);
described!(A B C D);
described!(A B C D E);
described!(A B C D E G);
