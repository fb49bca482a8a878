//! An authenticator app: codes of RFC 6238 from a secret as people type it. Not the control plane's own code: an error
//! there must not be made here too. Where `oathtool` of the OATH Toolkit is installed the codes are its own.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;

/// An app with one secret.
#[derive(Clone, Debug)]
pub(crate) struct Authenticator {
    secret: Vec<u8>,
    /// The same, for `oathtool`, if it is installed.
    outside: Option<String>,
    /// Time step of the last code that was shown: a code is good once (RFC 6238 section 5.2).
    used: Option<u64>,
}

/// RFC 6238 section 4.1.
const STEP_S: u64 = 30;

// === impl Authenticator ===

impl Authenticator {
    /// From base32 (RFC 4648 section 6) without padding.
    pub(crate) fn new(base32: &str) -> Result<Authenticator> {
        let (mut secret, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
        for byte in base32.bytes() {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'2'..=b'7' => byte - b'2' + 26,
                _ => anyhow::bail!("the secret is not base32"),
            };
            buffer = (buffer << 5 | u32::from(value)) & 0xffff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                secret.push((buffer >> bits & 0xff) as u8);
            }
        }
        ensure!(!secret.is_empty(), "the secret is empty");
        let outside = has_oathtool().then(|| base32.to_owned());
        Ok(Authenticator { secret, outside, used: None })
    }

    /// The code of now, or the next one if that was used: verifiers take a neighbouring step's.
    pub(crate) fn code(&mut self, now_s: u64) -> Result<String> {
        let now = now_s / STEP_S;
        let step = self.used.map_or(now, |used| now.max(used + 1));
        ensure!(
            step <= now + 1,
            "the codes of this half minute are used up; put a `clock` step before this one"
        );
        self.used = Some(step);
        let own = hotp(&self.secret, step);
        let Some(secret) = &self.outside else { return Ok(own) };
        let code = oathtool(secret, step * STEP_S)?;
        ensure!(code == own, "oathtool shows {code}, the runner's own authenticator {own}");
        Ok(code)
    }

    /// Whose codes they are.
    pub(crate) fn whose(&self) -> &'static str {
        match self.outside {
            Some(_) => "oathtool",
            None => "the runner's own, for want of oathtool",
        }
    }

    /// A code that is none: a digit differs.
    pub(crate) fn wrong_code(&self, now_s: u64) -> String {
        let right: Vec<String> =
            (0..3).map(|n| hotp(&self.secret, (now_s / STEP_S + n).saturating_sub(1))).collect();
        let codes = (0..1000).map(|n| format!("{n:06}"));
        codes.into_iter().find(|code| !right.contains(code)).unwrap_or_default()
    }
}

fn has_oathtool() -> bool {
    let mut command = Command::new("oathtool");
    let status = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn oathtool(secret: &str, at_s: u64) -> Result<String> {
    let mut command = Command::new("oathtool");
    command.args(["--totp", "--base32", &format!("--now=@{at_s}"), "-"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting oathtool")?;
    // Arguments are for every user of the machine to see.
    let mut input = child.stdin.take().context("oathtool has no input")?;
    writeln!(input, "{secret}").context("telling oathtool the secret")?;
    drop(input);
    let output = child.wait_with_output().context("waiting for oathtool")?;
    ensure!(output.status.success(), "oathtool ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// RFC 4226 section 5.3, six digits.
fn hotp(secret: &[u8], counter: u64) -> String {
    let tag =
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret), &counter.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] % 16);
    let word = tag[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte)) % (1 << 31);
    format!("{:06}", word % 1_000_000)
}

/// The secret of a key URI (`otpauth://totp/…?secret=…`), as a QR code carries it.
pub(crate) fn secret_of_uri(uri: &str) -> Result<&str> {
    let query = uri.strip_prefix("otpauth://totp/").and_then(|rest| rest.split_once('?'));
    let (_, query) = query.context("not a key URI of a time-based factor")?;
    query.split('&').find_map(|pair| pair.strip_prefix("secret=")).context("a key URI without a secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 appendix B, SHA-1, the last six digits of eight; the secret is `12345678901234567890`.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (now_s, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(Authenticator::new(secret).unwrap().code(now_s).unwrap(), code);
        }
    }

    #[test]
    fn a_code_is_shown_once() {
        let mut app = Authenticator::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
        let (first, second) = (app.code(59).unwrap(), app.code(59).unwrap());
        assert_ne!(first, second);
        assert!(app.code(59).unwrap_err().to_string().contains("used up"));
        app.code(90).unwrap();
        assert!(![first, second].contains(&app.wrong_code(59)));
    }

    #[test]
    fn secrets_are_base32_in_a_key_uri() {
        Authenticator::new("abc1").unwrap_err();
        Authenticator::new("").unwrap_err();
        assert_eq!(secret_of_uri("otpauth://totp/P:a@b.example?secret=ABCD&issuer=P").unwrap(), "ABCD");
        secret_of_uri("https://totp/?secret=ABCD").unwrap_err();
    }
}
