//! What can be wrong with a minted token. Each one is a forgery or mistake seen in the field (RFC 8725 section 2).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_token::mint::SigningKey;
use serde::Deserialize;
use serde_json::{Value, json};

/// A way to break a token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Defect {
    /// `alg: none` with an empty signature.
    AlgNone,
    /// `alg: none` in the header, but a real signature left in place.
    AlgNoneSigned,
    /// The first signature byte differs in one bit.
    FlipSignatureBit,
    /// One bit of the payload's text differs; the signature is the original's.
    FlipPayload,
    /// HMAC with the public key as secret (the RS256 to HS256 confusion).
    Hs256PublicKey,
    /// Signed by a key that nobody published, under a known `kid`.
    ForeignKey,
    /// A `kid` that nobody published.
    UnknownKid,
    /// No signature part at all.
    NoSignature,
    /// An empty signature under the right algorithm.
    EmptySignature,
    /// `=` padding at the signature's end.
    Padded,
}

/// Makes the token: header, claims and text as they are in it.
pub(crate) fn sign(
    key: &SigningKey,
    mut header: Value,
    mut claims: Value,
    defect: Option<Defect>,
) -> Result<(Value, Value, String), String> {
    let plain =
        |header: &Value, claims: &Value, key: &SigningKey| key.sign(&header.to_string(), &claims.to_string());
    let token = match defect {
        None => plain(&header, &claims, key),
        Some(Defect::AlgNone) => {
            header["alg"] = json!("none");
            format!("{}.", signing_input(&header, &claims))
        }
        Some(Defect::AlgNoneSigned) => {
            header["alg"] = json!("none");
            plain(&header, &claims, key)
        }
        Some(Defect::FlipSignatureBit) => {
            let token = plain(&header, &claims, key);
            let (input, signature) = token.rsplit_once('.').ok_or("the mint made no compact token")?;
            let mut bytes = URL_SAFE_NO_PAD.decode(signature).map_err(|e| e.to_string())?;
            *bytes.first_mut().ok_or("the mint made an empty signature")? ^= 1;
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(bytes))
        }
        Some(Defect::FlipPayload) => {
            let token = plain(&header, &claims, key);
            let (_, signature) = token.rsplit_once('.').ok_or("the mint made no compact token")?;
            // The claim is one that no policy reads: only the signature can tell.
            claims["tampered"] = json!(true);
            format!("{}.{signature}", signing_input(&header, &claims))
        }
        Some(Defect::Hs256PublicKey) => {
            header["alg"] = json!("HS256");
            let jwk = serde_json::to_vec(&key.public_jwk("k")).map_err(|e| e.to_string())?;
            let input = signing_input(&header, &claims);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &jwk), input.as_bytes());
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag))
        }
        Some(Defect::ForeignKey) => {
            let foreign = SigningKey::generate_rs256(2048).map_err(|e| e.to_string())?;
            plain(&header, &claims, &foreign)
        }
        Some(Defect::UnknownKid) => {
            header["kid"] = json!("nobody-published-this");
            plain(&header, &claims, key)
        }
        Some(Defect::NoSignature) => signing_input(&header, &claims),
        Some(Defect::EmptySignature) => format!("{}.", signing_input(&header, &claims)),
        Some(Defect::Padded) => format!("{}==", plain(&header, &claims, key)),
    };
    Ok((header, claims, token))
}

fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}
