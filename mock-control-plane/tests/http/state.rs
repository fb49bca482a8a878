//! The state file: a control plane that is started again goes on where it was.

use std::path::PathBuf;

use portcullis_mock_control_plane::{Clock, Config, ControlPlane, Plan, StartError, TenantConfig};
use serde_json::{Value, json};

use crate::logs::{ids, ingest, query, record};
use crate::mfa::enrolled;
use crate::plane::{PASSWORD, Plane, START_S, text, verify};
use crate::policies::policy;
use crate::scim::Directory;
use crate::totp::code;

/// A file that is gone when the test ends.
struct File {
    dir: PathBuf,
}

// === impl File ===

impl File {
    fn new(name: &str) -> File {
        let dir = std::env::temp_dir().join(format!("portcullis-state-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        File { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("plane.db")
    }

    fn start(&self) -> Plane {
        Plane::with(|config| config.state = Some(self.path()))
    }

    fn refused(&self, change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::for_tests(TenantConfig::default());
        config.state = Some(self.path());
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        match runtime.block_on(ControlPlane::start(config)) {
            Err(error @ StartError::State { .. } | error @ StartError::Tenant { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.dir).is_ok();
    }
}

#[test]
fn everything_is_there_again() {
    let file = File::new("everything");
    let mut plane = file.start();
    let agent = plane.agent();
    let services = json!({ "services": [{ "port": 80, "protocol": "tcp", "process_name": "nginx" }] });
    let path = format!("/manage/v1/acme/access/agents/{}/services", agent.0);
    plane.bearer(&agent.1, "POST", &path, services).done();
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    plane.manage("POST", "access/policies", policy("p2", 81)).created();
    plane.manage("DELETE", "access/policies/p1", Value::Null).done();
    plane.manage("POST", "keys", json!({ "alg": "ES256", "kid": "next" })).created();
    let schedule = json!({ "every_s": 86_400, "publish_ahead_s": 3600, "retire_after_s": 3600 });
    plane.manage("PUT", "keys/rotation", schedule).ok();
    let batch = json!({ "logs": [record(0, "allow"), record(1, "deny")], "stream": "s", "first_seq": 0 });
    ingest(&plane, &agent.1, batch.clone());
    let org = plane.directory("POST", "orgs", json!({ "slug": "mh", "name": "Memorial" })).created();
    let user = plane.user("alice@acme.com");
    let group = text(&plane.directory("POST", "groups", json!({ "name": "doctors" })).created(), "id");
    plane.directory("POST", &format!("groups/{group}/members"), json!({ "user_id": user })).done();
    let role = json!({ "role_name": "physician", "permissions": ["read:patients"] });
    plane.directory("POST", &format!("groups/{group}/roles"), role).created();
    let mapping = json!({ "group_id": group, "provider": "gcp", "role": "r", "resource": "p" });
    plane.manage("POST", "cloud/mappings", mapping).created();
    let entra = Directory::new(&plane, "Entra ID");
    entra.call("POST", "Users", json!({ "userName": "bob@acme.com", "title": "Dr." })).created();
    let scim = plane.scim_token("Okta", None);
    let (token, refresh_token) = plane.tokens("alice@acme.com");
    let secret = text(&plane.bearer(&token, "POST", "/v1/acme/mfa/enroll", Value::Null).ok(), "secret");
    let body = json!({ "code": code(&secret, START_S) });
    let verified = plane.bearer(&token, "POST", "/v1/acme/mfa/verify", body).ok();
    let backup = text(&json!({ "code": verified["backup_codes"][0] }), "code");
    let ticket =
        text(&plane.login(json!({ "email": "alice@acme.com", "password": PASSWORD })).ok(), "mfa_token");
    let spent =
        json!({ "email": "alice@acme.com", "password": PASSWORD, "mfa_code": code(&secret, START_S) });
    plane.login(spent.clone()).problem(401);
    plane.manage("POST", "revocations", json!({ "claim": "jti", "value": "stolen" })).created();
    plane.manage("PATCH", "tenant", json!({ "plan": "scale", "cloud_delay_s": 7 })).ok();
    plane.manage("POST", "test/clock", json!({ "advance_s": 60 })).ok();

    let paths = [
        "/manage/v1/acme/tenant",
        "/manage/v1/acme/access/agents",
        "/manage/v1/acme/access/services",
        "/manage/v1/acme/access/policies",
        "/manage/v1/acme/access/logs",
        "/manage/v1/acme/access/logs/streams",
        "/manage/v1/acme/keys",
        "/manage/v1/acme/revocations",
        "/manage/v1/acme/scim/tokens",
        "/manage/v1/acme/directory/sync-log",
        "/manage/v1/acme/cloud/mappings",
        "/manage/v1/acme/cloud/bindings",
        "/manage/v1/acme/audit",
        "/manage/v1/acme/test/clock",
        "/v1/acme/.well-known/jwks.json",
        "/v1/acme/.well-known/openid-configuration",
        "/api/v1/orgs",
        "/api/v1/users",
        "/api/v1/groups",
        "/api/v1/roles",
    ];
    let all = |plane: &Plane| -> Vec<Value> {
        let key = [("x-api-key", crate::plane::API_KEY)];
        paths.iter().map(|path| plane.send("GET", path, &key, b"").ok()).collect()
    };
    let bundle = plane.bundle(&agent);
    let before = all(&plane);
    plane.shutdown();
    drop(plane);

    let plane = file.start();
    for ((path, before), after) in paths.iter().zip(&before).zip(all(&plane)) {
        assert_eq!(&after, before, "{path}");
    }
    assert_eq!(plane.bundle(&agent), bundle);
    assert_eq!(plane.directory("GET", "orgs", Value::Null).ok()["orgs"][0]["id"], org["id"]);
    // Secrets are good: an agent's, a directory's, a session's, a user's; and codes that were used are not.
    let taken = ingest(&plane, &agent.1, batch).body;
    assert_eq!((&taken["accepted"], &taken["duplicates"]), (&json!(0), &json!(2)));
    assert_eq!(ids(&query(&plane, "")), [1, 0]);
    plane.bearer(&scim, "GET", "/scim/v2/acme/Users", Value::Null).ok();
    plane.bearer(&token, "GET", "/v1/acme/userinfo", Value::Null).ok();
    plane.login(spent).problem(401);
    let fresh = json!({ "mfa_token": ticket, "mfa_code": code(&secret, START_S + 60) });
    plane.login(fresh).ok();
    let with_backup = json!({ "email": "alice@acme.com", "password": PASSWORD, "mfa_code": backup });
    plane.login(with_backup.clone()).ok();
    plane.login(with_backup).problem(401);
    let body = json!({ "refresh_token": refresh_token }).to_string();
    let refreshed = plane.send("POST", "/v1/acme/auth/refresh", &[], body.as_bytes()).ok();
    assert_eq!(verify(&bundle, &text(&refreshed, "access_token"), START_S + 60), Ok(()));
    plane.send("POST", "/v1/acme/auth/refresh", &[], body.as_bytes()).problem(401);
}

/// The versions of the bundle go on: an agent never meets an older one.
#[test]
fn versions_go_on() {
    let file = File::new("versions");
    let mut last = 0;
    let mut agent = None;
    for n in 0..3 {
        let plane = file.start();
        let agent = agent.get_or_insert_with(|| plane.agent());
        assert!(plane.bundle(agent).version >= last);
        plane.manage("POST", "access/policies", policy(&format!("p{n}"), 80 + n)).created();
        assert!(plane.bundle(agent).version > last);
        last = plane.bundle(agent).version;
    }
}

#[test]
fn what_the_configuration_says_holds() {
    let file = File::new("configuration");
    let plane = file.start();
    let agent = plane.agent();
    let before = plane.bundle(&agent);
    drop(plane);
    let plane = Plane::with(|config| {
        config.state = Some(file.path());
        let row = &mut config.tenants[0];
        row.audiences = vec!["elsewhere".to_owned()];
        row.plan = Some(Plan::Scale);
    });
    let bundle = plane.bundle(&agent);
    assert_eq!(
        bundle.issuers[0].issuer, before.issuers[0].issuer,
        "the port is another one, the issuer is not"
    );
    assert_eq!(bundle.issuers[0].audiences, ["elsewhere"]);
    assert!(bundle.version > before.version);
    assert_eq!(plane.manage("GET", "tenant", Value::Null).ok()["plan"], "scale");
    drop(plane);
    // The key of the state file is good no more, and cannot be another tenant's.
    let plane = Plane::with(|config| {
        config.state = Some(file.path());
        config.tenants[0].api_key = "sk_new".to_owned();
    });
    plane.manage("GET", "tenant", Value::Null).problem(401);
    plane.send("GET", "/manage/v1/acme/tenant", &[("x-api-key", "sk_new")], b"").ok();
    drop(plane);
    let reason = file.refused(|config| {
        config.tenants[0].name = "other".to_owned();
        config.tenants[0].api_key = "sk_new".to_owned();
    });
    assert!(reason.contains("used twice"), "{reason}");
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let file = File::new("unreadable");
    drop(file.start());
    let edit = |sql: &str| {
        let connection = rusqlite::Connection::open(file.path()).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    edit("INSERT INTO state VALUES ('acme', 'policy', 'odd', '{\"name\":1}')");
    let reason = file.refused(|_| {});
    assert!(reason.contains("policy `odd`: ") && reason.contains("plane.db"), "{reason}");
    edit("DELETE FROM state WHERE id = 'odd'; INSERT INTO state VALUES ('acme', 'pet', 'rex', '{}')");
    let reason = file.refused(|_| {});
    assert!(reason.contains("pet `rex`: a kind that this version does not know"), "{reason}");
    edit("DELETE FROM state WHERE id = 'rex'; UPDATE state SET body = replace(body, 'active', 'retiring')");
    let reason = file.refused(|_| {});
    assert!(reason.contains("0 keys are active"), "{reason}");
    edit("PRAGMA user_version = 2");
    let reason = file.refused(|_| {});
    assert!(reason.contains("was written in format 2"), "{reason}");
    edit("PRAGMA application_id = 1");
    let reason = file.refused(|_| {});
    assert!(reason.contains("is a database of something else"), "{reason}");
}

/// Whoever reads the file finds no secret that could be presented.
#[test]
fn secrets_are_hashed() {
    let file = File::new("secrets");
    let plane = file.start();
    let (_, agent) = plane.agent();
    let scim = plane.scim_token("Okta", None);
    plane.user("a@acme.com");
    let (token, refresh) = plane.tokens("a@acme.com");
    let (_, _, backup_codes) = enrolled(&plane);
    assert!(!backup_codes.is_empty());
    drop(plane);
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes.extend(std::fs::read(file.dir.join("plane.db-wal")).unwrap_or_default());
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("a@acme.com"), "it is the state");
    let others = backup_codes.iter().map(String::as_str);
    for secret in [&agent, &scim, &token, &refresh, PASSWORD, crate::plane::API_KEY].into_iter().chain(others)
    {
        assert!(!holds(secret.trim_start_matches("as_")), "{secret}");
    }
}

/// A write that fails is an error, and so is everything after it: nothing is acknowledged that is not there.
#[test]
fn what_cannot_be_written_is_not_acknowledged() {
    let file = File::new("unwritable");
    let plane = file.start();
    // A trigger is a disk that is full, as far as the writer can tell.
    drop(plane);
    let connection = rusqlite::Connection::open(file.path()).unwrap();
    let sql = "CREATE TRIGGER full BEFORE INSERT ON state WHEN NEW.kind = 'user'
               BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let plane = file.start();
    plane.manage("POST", "access/policies", policy("p1", 80)).created();
    let refused = plane.directory("POST", "users", json!({ "email": "a@acme.com" })).problem(500);
    assert!(refused.contains("the disk is full"), "{refused}");
    plane.manage("POST", "access/policies", policy("p2", 81)).problem(500);
    drop(plane);
    let plane = file.start();
    let policies = plane.manage("GET", "access/policies", Value::Null).ok();
    assert_eq!(policies["policies"].as_array().unwrap().len(), 1);
    assert_eq!(plane.directory("GET", "users", Value::Null).ok()["total"], 0);
}

#[test]
fn a_clock_of_its_own_goes_on_too() {
    let file = File::new("clock");
    let plane = file.start();
    plane.manage("POST", "test/clock", json!({ "advance_s": 1000 })).ok();
    drop(plane);
    let plane = Plane::with(|config| {
        config.state = Some(file.path());
        config.clock = Clock::system();
    });
    assert_eq!(plane.manage("GET", "test/clock", Value::Null).ok()["ahead_s"], 1000);
}
