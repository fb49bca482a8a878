//! Time-based one-time passwords: RFC 6238 over RFC 4226, in the form that authenticator apps read.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use crate::secret::Hexadecimal;
use crate::{Problem, secret};

/// A shared secret.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct TotpSecret(#[serde(with = "Hexadecimal")] Vec<u8>);

/// A code of one time step, 30 seconds long; counted from the epoch.
pub(crate) type Step = u64;

/// RFC 4226 section 4, R6: 128 bits at least, 160 recommended. (Samples with 80 are refused by current authenticators.)
const SECRET_BYTES: usize = 20;
/// RFC 6238 section 4.1.
const STEP_S: u64 = 30;
/// Digits of a code, as authenticator apps show.
const DIGITS: usize = 6;
/// Steps that the user's clock may be off, either way (RFC 6238 section 5.2: at most one is recommended).
const DRIFT_STEPS: u64 = 1;

// === impl TotpSecret ===

impl TotpSecret {
    /// A new secret of 160 bits.
    pub(crate) fn generate() -> Result<TotpSecret, Problem> {
        Ok(TotpSecret(secret::random_bytes::<SECRET_BYTES>()?.to_vec()))
    }

    /// In base32 without padding, as people type it.
    pub(crate) fn base32(&self) -> String {
        base32(&self.0)
    }

    /// Key URI for `account`, as authenticator apps read it from a QR code. SHA-1, six digits and 30 seconds are what
    /// they take it to mean.
    pub(crate) fn uri(&self, issuer: &str, account: &str) -> String {
        let (issuer, account) = (percent(issuer), percent(account));
        let secret = self.base32();
        format!("otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}")
    }

    /// The step whose code `presented` is, if it is one of those near `now_s` and later than `after`.
    //= https://www.rfc-editor.org/rfc/rfc6238#section-5.2
    //# The verifier MUST NOT accept the second attempt of the OTP after the successful validation has been issued for
    //# the first OTP
    pub(crate) fn step_of(&self, presented: &str, now_s: u64, after: Option<Step>) -> Option<Step> {
        let now = now_s / STEP_S;
        let steps = now.saturating_sub(DRIFT_STEPS)..=now.saturating_add(DRIFT_STEPS);
        // Every step is compared: the time does not tell which one it was.
        steps.fold(None, |found, step| {
            let code = self.code(step, DIGITS);
            let equal = verify_slices_are_equal(code.as_bytes(), presented.as_bytes()).is_ok();
            if equal && after.is_none_or(|after| step > after) { Some(step) } else { found }
        })
    }

    //= https://www.rfc-editor.org/rfc/rfc4226#section-5.3
    fn code(&self, step: Step, digits: usize) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let hash = tag.as_ref();
        let at = usize::from(hash[hash.len() - 1] & 15);
        let word = u32::from_be_bytes([hash[at] & 0x7f, hash[at + 1], hash[at + 2], hash[at + 3]]);
        let number = u64::from(word) % 10_u64.pow(u32::try_from(digits).unwrap_or(DIGITS as u32));
        format!("{number:0digits$}")
    }
}

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TotpSecret").finish_non_exhaustive()
    }
}

/// Whether `code` has the form of a TOTP code.
pub(crate) fn is_code(code: &str) -> bool {
    code.len() == DIGITS && code.bytes().all(|b| b.is_ascii_digit())
}

/// RFC 4648 section 6, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits & 31) as usize]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits) & 31) as usize]));
    }
    text
}

/// RFC 3986 section 2.1; what is unreserved, and `@`, stays.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B, the rows of SHA-1.
    #[test]
    fn codes_of_rfc_6238() {
        //= https://www.rfc-editor.org/rfc/rfc6238#appendix-B
        //= type=test
        let secret = TotpSecret(b"12345678901234567890".to_vec());
        let rows = [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ];
        for (time_s, code) in rows {
            assert_eq!(secret.code(time_s / STEP_S, 8), code, "at {time_s}");
            assert_eq!(secret.step_of(&code[2..], time_s, None), Some(time_s / STEP_S), "at {time_s}");
        }
    }

    /// RFC 4226 appendix D.
    #[test]
    fn codes_of_rfc_4226() {
        //= https://www.rfc-editor.org/rfc/rfc4226#appendix-D
        //= type=test
        let secret = TotpSecret(b"12345678901234567890".to_vec());
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ];
        for (step, code) in (0..).zip(codes) {
            assert_eq!(secret.code(step, 6), code, "counter {step}");
        }
    }

    #[test]
    fn base32_of_rfc_4648() {
        //= https://www.rfc-editor.org/rfc/rfc4648#section-10
        //= type=test
        let rows = [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ];
        for (plain, encoded) in rows {
            assert_eq!(base32(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_secret_has_160_bits() {
        let secret = TotpSecret::generate().expect("random source");
        assert_eq!(secret.0.len() * 8, 160);
        assert_eq!(secret.base32().len(), 32);
    }

    #[test]
    fn one_step_of_drift_and_no_more() {
        let secret = TotpSecret(b"12345678901234567890".to_vec());
        let now = 1_000_000_000;
        for (step, accepted) in [(-2_i64, false), (-1, true), (0, true), (1, true), (2, false)] {
            let wanted = (now / STEP_S).checked_add_signed(step).expect("a step");
            let code = secret.code(wanted, DIGITS);
            assert_eq!(secret.step_of(&code, now, None).is_some(), accepted, "{step} steps off");
        }
    }

    #[test]
    fn a_used_step_and_those_before_are_refused() {
        let secret = TotpSecret(b"12345678901234567890".to_vec());
        let now = 1_000_000_000;
        let step = now / STEP_S;
        let code = secret.code(step, DIGITS);
        assert_eq!(secret.step_of(&code, now, Some(step - 1)), Some(step));
        assert_eq!(secret.step_of(&code, now, Some(step)), None);
        assert_eq!(secret.step_of(&secret.code(step - 1, DIGITS), now, Some(step)), None);
    }

    #[test]
    fn odd_codes_are_refused() {
        let secret = TotpSecret(b"12345678901234567890".to_vec());
        for odd in ["", "0", "28708", "2870820", "28708\u{663}", "+28708"] {
            assert_eq!(secret.step_of(odd, 59, None), None, "{odd:?}");
        }
    }

    #[test]
    fn the_key_uri_is_escaped() {
        let secret = TotpSecret(vec![0; 20]);
        let uri = secret.uri("Auth&FI", "al ice@acme.com");
        assert!(uri.starts_with("otpauth://totp/Auth%26FI:al%20ice@acme.com?secret=AAAA"), "{uri}");
        assert!(uri.ends_with("&issuer=Auth%26FI"), "{uri}");
    }
}
