//! Tokens: compact form, JWKS vetting, verification, claims; pure
