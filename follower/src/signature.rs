//! The signature of a bundle: a JWS in compact serialization with detached content (RFC 7515 section 3.1 and appendix F),
//! ES256, by a key of the control plane's that is used for nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_token::{Alg, VettedKey};
use portcullis_wire::Jwk;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The field that carries it.
pub const SIGNATURE_FIELD: &str = "portcullis-bundle-signature";

/// The key that bundles of one control plane are signed with.
#[derive(Clone, Debug)]
pub struct BundleKey {
    jwk: Jwk,
    key: VettedKey,
}

/// A bundle is not what the control plane signed for this agent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// It was signed for somebody else.
    #[error("it was signed for agent {0:?}")]
    Agent(String),
    /// Another algorithm.
    #[error("its signature says alg {0:?}; ES256 is accepted")]
    Alg(String),
    /// Extensions that must be understood.
    #[error("its signature has a `crit`, which no bundle needs")]
    Critical,
    /// No JWS with detached content.
    #[error("its signature cannot be read: {0}")]
    Form(String),
    /// A key that cannot verify bundles.
    #[error("the control plane's key for bundles is of no use: {0}; ES256 over P-256 is accepted")]
    Key(String),
    /// There is none.
    #[error("it has no signature, and this agent knows the key that bundles are signed with")]
    Missing,
    /// It is for something else.
    #[error("its signature is of typ {0:?}; portcullis-bundle+jws is accepted")]
    Type(String),
    /// The signed version is another one than the bundle's.
    #[error("its signature is of version {signed}, and it says {said}")]
    Version {
        /// In the signature.
        signed: u64,
        /// In the bundle.
        said: u64,
    },
    /// The signature is not of this key over these octets.
    #[error(
        "its signature (of key {kid:?}) is not of the pinned key {pinned:?} over what came; if the control plane has \
         another key now, register again, or give the new one as bundle_key"
    )]
    Wrong {
        /// Who is said to have signed.
        kid: String,
        /// Who should have.
        pinned: String,
    },
}

/// Members that are known, RFC 7515 section 4.1 and docs/ARCHITECTURE.md; others are ignored.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    typ: String,
    agent: String,
    version: u64,
    // `null` is there too.
    #[serde(default, deserialize_with = "there")]
    crit: Option<Value>,
}

const ALG: &str = "ES256";
const TYP: &str = "portcullis-bundle+jws";

// === impl BundleKey ===

impl BundleKey {
    /// Vets a key.
    ///
    /// # Errors
    /// When it is no P-256 key for signatures.
    pub fn new(jwk: Jwk) -> Result<BundleKey, SignatureError> {
        let refuse = |what: String| SignatureError::Key(what);
        let key = VettedKey::new(&jwk).map_err(|defect| refuse(defect.to_string()))?;
        match key.alg() {
            Alg::Es256 => Ok(BundleKey { jwk, key }),
            Alg::Rs256 { .. } => Err(refuse("it is an RSA key".to_owned())),
        }
    }

    /// As it is published.
    #[must_use]
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Verifies what came for `agent`; the version that was signed. Nothing of `body` is read before.
    pub(crate) fn verify(
        &self,
        signature: Option<&str>,
        agent: &str,
        body: &[u8],
    ) -> Result<u64, SignatureError> {
        let form = |what: &str| SignatureError::Form(what.to_owned());
        let signature = signature.ok_or(SignatureError::Missing)?;
        let mut parts = signature.split('.');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(protected), Some(""), Some(octets), None) = parts else {
            return Err(form("not <protected>..<signature>"));
        };
        let octets = URL_SAFE_NO_PAD.decode(octets).map_err(|_| form("not base64url"))?;
        let header = URL_SAFE_NO_PAD.decode(protected).map_err(|_| form("not base64url"))?;
        let header = serde_json::from_slice(&header).map_err(|error| form(&error.to_string()))?;
        let Header { alg, kid, typ, agent: of, version, crit } = header;
        if alg != ALG {
            return Err(SignatureError::Alg(alg));
        }
        if typ != TYP {
            return Err(SignatureError::Type(typ));
        }
        if crit.is_some() {
            return Err(SignatureError::Critical);
        }
        //= https://www.rfc-editor.org/rfc/rfc7515#section-5.1
        //# JWS Signing Input ASCII(BASE64URL(UTF8(JWS Protected Header)) || '.' || BASE64URL(JWS Payload))
        let mut input = format!("{protected}.");
        URL_SAFE_NO_PAD.encode_string(body, &mut input);
        if !self.key.verify_signature(input.as_bytes(), &octets) {
            return Err(SignatureError::Wrong { kid, pinned: self.key.kid().to_owned() });
        }
        if of != agent {
            return Err(SignatureError::Agent(of));
        }
        Ok(version)
    }
}

fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use portcullis_token::mint::SigningKey;
    use serde_json::json;

    use super::*;

    const BODY: &[u8] = br#"{"version": 7}"#;

    fn header() -> Value {
        json!({ "alg": "ES256", "kid": "k", "typ": TYP, "agent": "a1", "version": 7, "later": [1] })
    }

    fn sign(key: &SigningKey, header: &str, body: &[u8]) -> String {
        let whole = key.sign_octets(header.as_bytes(), body);
        let parts: Vec<&str> = whole.split('.').collect();
        format!("{}..{}", parts[0], parts[2])
    }

    fn keys() -> (SigningKey, BundleKey) {
        let key = SigningKey::generate_es256().unwrap();
        let public = BundleKey::new(key.public_jwk("k")).unwrap();
        (key, public)
    }

    #[test]
    fn what_was_signed_for_this_agent_is_good_and_no_other_octet_is() {
        let (key, public) = keys();
        let signature = sign(&key, &header().to_string(), BODY);
        assert_eq!(public.verify(Some(&signature), "a1", BODY), Ok(7));
        assert_eq!(public.verify(Some(&signature), "a2", BODY), Err(SignatureError::Agent("a1".to_owned())));
        for at in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[at] ^= 1;
            let refused = public.verify(Some(&signature), "a1", &body);
            assert!(matches!(refused, Err(SignatureError::Wrong { .. })), "octet {at}: {refused:?}");
        }
        for at in 0..signature.len() {
            for with in [b'A', b'.', b'='] {
                let mut changed = signature.clone().into_bytes();
                if std::mem::replace(&mut changed[at], with) != with {
                    let changed = String::from_utf8(changed).unwrap();
                    public.verify(Some(&changed), "a1", BODY).expect_err(&changed);
                }
            }
        }
    }

    #[test]
    fn another_key_and_none_are_refused() {
        let (key, public) = keys();
        let (other, _) = keys();
        assert_eq!(public.verify(None, "a1", BODY), Err(SignatureError::Missing));
        let refused = public.verify(Some(&sign(&other, &header().to_string(), BODY)), "a1", BODY);
        let Err(error @ SignatureError::Wrong { .. }) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("register again"), "{error}");
        // The content that came must be the content that was signed, wherever else it stands.
        let whole = key.sign_octets(header().to_string().as_bytes(), BODY);
        let refused = public.verify(Some(&whole), "a1", BODY);
        assert!(matches!(refused, Err(SignatureError::Form(_))), "{refused:?}");
    }

    #[test]
    fn a_header_that_means_something_else_is_refused_although_its_signature_is_good() {
        let (key, public) = keys();
        let check = |change: &str, value: Value, expected: &dyn Fn(&SignatureError) -> bool| {
            let mut header = header();
            header[change] = value;
            let refused = public.verify(Some(&sign(&key, &header.to_string(), BODY)), "a1", BODY);
            let error = refused.expect_err(change);
            assert!(expected(&error), "{change}: {error:?}");
        };
        for alg in ["none", "HS256", "RS256", "ES384", "es256", ""] {
            check("alg", alg.into(), &|error| matches!(error, SignatureError::Alg(_)));
        }
        check("typ", "JWT".into(), &|error| matches!(error, SignatureError::Type(_)));
        for crit in [json!(["b64"]), json!([]), Value::Null] {
            check("crit", crit, &|error| *error == SignatureError::Critical);
        }
        for (member, value) in [("version", json!("7")), ("version", json!(-1)), ("agent", json!(["a1"]))] {
            check(member, value, &|error| matches!(error, SignatureError::Form(_)));
        }
        let twice = header().to_string().replacen('{', r#"{"agent":"a2","#, 1);
        let refused = public.verify(Some(&sign(&key, &twice, BODY)), "a1", BODY);
        assert!(matches!(refused, Err(SignatureError::Form(_))), "{refused:?}");
    }

    #[test]
    fn a_signature_without_a_key_is_none() {
        // RFC 7515 appendix A.5: alg none, and an empty signature.
        let (_, public) = keys();
        let mut header = header();
        for alg in ["none", "ES256"] {
            header["alg"] = alg.into();
            let signature = format!("{}..", URL_SAFE_NO_PAD.encode(header.to_string()));
            public.verify(Some(&signature), "a1", BODY).expect_err(alg);
        }
    }

    #[test]
    fn only_a_p256_key_can_be_pinned() {
        let rsa = SigningKey::generate_rs256(2048).unwrap().public_jwk("k");
        assert!(matches!(BundleKey::new(rsa), Err(SignatureError::Key(_))));
        let bare = Jwk { kid: None, ..keys().1.jwk().clone() };
        assert!(BundleKey::new(bare).unwrap_err().to_string().contains("kid"));
    }
}
