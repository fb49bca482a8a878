//! An authenticator app: codes from the secret as it was shown (RFC 6238), written apart from the control plane's.

use aws_lc_rs::hmac;

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
