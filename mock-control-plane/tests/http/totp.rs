//! An authenticator app: codes from the secret as it was shown (RFC 6238), written apart from the control plane's.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::plane::{PASSWORD, Plane, decode, text};

/// The code at a time.
pub fn code(secret_base32: &str, now_s: u64) -> String {
    let bits: String = secret_base32
        .chars()
        .map(|c| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).expect("base32"))
        .map(|value| format!("{value:05b}"))
        .collect();
    let bytes = |chunk: &[u8]| u8::from_str_radix(std::str::from_utf8(chunk).unwrap(), 2).unwrap();
    let key: Vec<u8> = bits.as_bytes().chunks_exact(8).map(bytes).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &(now_s / 30).to_be_bytes());
    let tag = tag.as_ref();
    let at = (tag[19] & 0xf) as usize;
    let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// The sample of RFC 6238 appendix B at 59 seconds.
#[test]
fn the_app_itself_is_right() {
    assert_eq!(code("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 59), "287082");
}

/// An authenticator that knows nothing of us: `oathtool`, of OATH Toolkit, given the key URI's secret. Each of its codes
/// enrols, logs in, steps up and unenrols, once.
#[test]
fn an_outside_authenticator() {
    portcullis_testkit::need!(Tool("oathtool"));
    let plane = Plane::start();
    plane.user("alice@acme.com");
    let (token, _) = plane.tokens("alice@acme.com");
    let enrolled = plane.bearer(&token, "POST", "/v1/acme/mfa/enroll", Value::Null).ok();
    let uri = text(&enrolled, "uri");
    let (_, rest) = uri.split_once("?secret=").unwrap();
    let secret = rest.split('&').next().unwrap();
    let code = || {
        let now = format!("--now=@{}", plane.now_s());
        let oathtool =
            std::process::Command::new("oathtool").args(["--totp", "--base32", &now, secret]).output();
        let output = oathtool.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let codes = plane.bearer(&token, "POST", "/v1/acme/mfa/verify", json!({ "code": code() })).ok();
    assert_eq!(codes["backup_codes"].as_array().unwrap().len(), 10);
    let login = |code: String| {
        plane.login(json!({ "email": "alice@acme.com", "password": PASSWORD, "mfa_code": code }))
    };
    login(code()).problem(401);
    plane.advance(30);
    let token = text(&login(code()).ok(), "access_token");
    let claims = decode(&token).1;
    assert_eq!((&claims["mfa_verified"], &claims["amr"]), (&json!(true), &json!(["pwd", "otp", "mfa"])));
    plane.advance(600);
    let body = json!({ "mfa_code": code() });
    let stepped = plane.bearer(&token, "POST", "/v1/acme/auth/step-up", body).ok();
    let claims = decode(&text(&stepped, "access_token")).1;
    assert_eq!((&claims["auth_time"], &claims["mfa_verified"]), (&json!(plane.now_s()), &json!(true)));
    plane.advance(30);
    let body = json!({ "factor_id": enrolled["factor_id"], "code": code() });
    plane.bearer(&token, "POST", "/v1/acme/mfa/unenroll", body).ok();
    assert_eq!(plane.bearer(&token, "GET", "/v1/acme/mfa/factors", Value::Null).ok()["factors"], json!([]));
}
