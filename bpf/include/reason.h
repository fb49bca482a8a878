/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every decision reason, once: PC_REASON(code, NAME, slug, HTTP status, RFC 6750 error, text).
 * Status 0 is an allow.  The error is the `error` parameter of WWW-Authenticate; "" leaves it out
 * (RFC 6750 section 3.1: a request that lacks any authentication information gets none).
 * core/policy has the same list as an enum; a test in bpf/ compares the two.
 */
#ifndef PC_REASON_H
#define PC_REASON_H

#define PC_REASONS(PC_REASON) \
	PC_REASON(0, NONE, "none", 0, "", "no decision") \
	PC_REASON(1, RULE_ALLOW, "rule_allow", 0, "", "matched rule and all its requirements") \
	PC_REASON(2, PUBLIC, "public", 0, "", "matched a rule that needs no token") \
	PC_REASON(3, OPTIONAL_ANONYMOUS, "optional_anonymous", 0, "", "matched a rule with optional token; none was sent") \
	PC_REASON(4, DEFAULT_ALLOW, "default_allow", 0, "", "no rule matched; default_action is allow") \
	PC_REASON(20, TOKEN_MISSING, "token_missing", 401, "", "a token is required and none was sent") \
	PC_REASON(21, TOKEN_MALFORMED, "token_malformed", 401, "invalid_token", "not a compact JWS with canonical base64url parts") \
	PC_REASON(22, TOKEN_TOO_LARGE, "token_too_large", 401, "invalid_token", "token is longer than the documented limit") \
	PC_REASON(23, TOKEN_ALG, "token_alg", 401, "invalid_token", "algorithm is not the key's, or neither RS256 nor ES256") \
	PC_REASON(24, TOKEN_HEADER, "token_header", 401, "invalid_token", "JOSE header is not acceptable (crit, typ, duplicate or wrong type)") \
	PC_REASON(25, TOKEN_CLAIMS, "token_claims", 401, "invalid_token", "claims set is not acceptable (syntax, duplicate or wrong type)") \
	PC_REASON(26, TOKEN_ISSUER, "token_issuer", 401, "invalid_token", "issuer is not trusted") \
	PC_REASON(27, TOKEN_AUDIENCE, "token_audience", 401, "invalid_token", "audience is not accepted for this issuer") \
	PC_REASON(28, TOKEN_KEY, "token_key", 401, "invalid_token", "no key with this kid belongs to the issuer") \
	PC_REASON(29, TOKEN_SIGNATURE, "token_signature", 401, "invalid_token", "signature does not verify") \
	PC_REASON(30, TOKEN_EXPIRED, "token_expired", 401, "invalid_token", "token has expired") \
	PC_REASON(31, TOKEN_NOT_YET, "token_not_yet", 401, "invalid_token", "token is not valid yet (nbf)") \
	PC_REASON(32, TOKEN_IAT, "token_iat", 401, "invalid_token", "token was issued in the future (iat)") \
	PC_REASON(33, MFA_REQUIRED, "mfa_required", 401, "insufficient_user_authentication", "rule requires MFA and the token does not carry it") \
	PC_REASON(34, MFA_STALE, "mfa_stale", 401, "insufficient_user_authentication", "MFA is older than the rule allows") \
	PC_REASON(35, DEFAULT_DENY_ANONYMOUS, "default_deny_anonymous", 401, "", "no rule matched; default_action is deny; no token was sent") \
	PC_REASON(36, TOKEN_REVOKED, "token_revoked", 401, "invalid_token", "token, session, user or organisation is revoked") \
	PC_REASON(40, ROLE_MISSING, "role_missing", 403, "insufficient_scope", "none of the required roles") \
	PC_REASON(41, PERMISSION_MISSING, "permission_missing", 403, "insufficient_scope", "none of the required permissions") \
	PC_REASON(42, GROUP_MISSING, "group_missing", 403, "insufficient_scope", "none of the required groups") \
	PC_REASON(43, ALL_OF_MISSING, "all_of_missing", 403, "insufficient_scope", "not all of the all_of list") \
	PC_REASON(44, NONE_OF_PRESENT, "none_of_present", 403, "insufficient_scope", "one of the none_of list is present") \
	PC_REASON(45, ORG_MISMATCH, "org_mismatch", 403, "insufficient_scope", "token belongs to another organisation") \
	PC_REASON(46, DEFAULT_DENY, "default_deny", 403, "insufficient_scope", "no rule matched; default_action is deny") \
	PC_REASON(47, HOST_NOT_COVERED, "host_not_covered", 403, "insufficient_scope", "no policy of this port covers the host") \
	PC_REASON(60, BAD_REQUEST_LINE, "bad_request_line", 400, "", "request line is not HTTP/1.x with an origin-form or absolute-form target") \
	PC_REASON(61, BAD_HEADER, "bad_header", 400, "", "malformed header section") \
	PC_REASON(62, BAD_FRAMING, "bad_framing", 400, "", "Content-Length or Transfer-Encoding is absent, doubled, conflicting or unsupported") \
	PC_REASON(63, BAD_HOST, "bad_host", 400, "", "Host is missing, doubled or malformed, or differs from the target") \
	PC_REASON(64, BAD_AUTHORIZATION, "bad_authorization", 400, "", "more than one Authorization field") \
	PC_REASON(65, PATH_AMBIGUOUS, "path_ambiguous", 400, "", "path can be read in more than one way") \
	PC_REASON(66, PATH_TOO_LONG, "path_too_long", 400, "", "path is longer than the documented limit") \
	PC_REASON(67, BAD_CHUNK, "bad_chunk", 400, "", "malformed chunked body") \
	PC_REASON(68, NOT_HTTP1, "not_http1", 400, "", "TLS, HTTP/2 preface or another protocol") \
	PC_REASON(69, METHOD_REFUSED, "method_refused", 400, "", "method is CONNECT or not an upper-case token") \
	PC_REASON(70, HEAD_TOO_LARGE, "head_too_large", 431, "", "request head is longer than the documented limit") \
	PC_REASON(71, UPGRADE_REFUSED, "upgrade_refused", 403, "", "data was sent before the protocol upgrade was answered") \
	PC_REASON(80, PIPELINE_REFUSED, "pipeline_refused", 400, "", "denied request behind one whose response is still owed") \
	PC_REASON(81, STREAM_GAP, "stream_gap", 400, "", "bytes of the stream were not seen in order") \
	PC_REASON(90, NO_CAPACITY, "no_capacity", 503, "", "a bounded resource of the enforcer is used up") \
	PC_REASON(91, INTERNAL, "internal", 503, "", "internal error; denied to be safe")

#define PC_REASON_ENUM(code, name, slug, status, error, text) PC_R_##name = code,
enum pc_reason { PC_REASONS(PC_REASON_ENUM) };
#undef PC_REASON_ENUM

#endif
