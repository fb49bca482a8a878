//! Bounds of a token. The kernel has the same ones (`bpf/include/limits.h`, and `bpf/lib/json.h` for the digits).

/// Compact JWS, all three parts and both dots, in characters (`PC_TOKEN_MAX`).
pub const TOKEN_MAX: usize = 4096;
/// Decoded JOSE header, in bytes (`PC_JOSE_MAX`).
pub const JOSE_MAX: usize = 1024;
/// Nesting of the header and of the claims set; the outermost object is the first level (`PC_JSON_DEPTH_MAX`).
pub const JSON_DEPTH_MAX: usize = 16;
/// Tokens of the header or the claims set: a string, a number, a bracket, a comma is one (`PC_JSON_TOKENS_MAX`).
pub const JSON_TOKENS_MAX: usize = 1024;
/// Longest key or known value that may contain an escape, raw, in bytes (`PC_JSON_ESCAPED_MAX`).
pub const JSON_ESCAPED_MAX: usize = 256;
/// Strings that the known members hold together (`PC_CLAIM_VALUES_MAX`).
pub const CLAIM_VALUES_MAX: usize = 128;
/// Digits of a known number, which keeps it below 2^53 (`pc_json_integer`).
pub const DIGITS_MAX: usize = 15;
/// Issuer, audience or kid that is recognised, in bytes (`PC_NAME_MAX`).
pub const NAME_MAX: usize = 240;
/// Clock leeway of an issuer, seconds (`PC_LEEWAY_MAX_S`). RFC 7519 section 4.1.4: "usually no more than a few minutes".
pub const LEEWAY_MAX_S: u32 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    /// Value of `#define name value` in the kernel's headers.
    fn defined(name: &str) -> usize {
        let headers = ["include/limits.h", "lib/json.h", "lib/jwt.h"].map(|header| {
            let path = format!("{}/../../bpf/{header}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        });
        let defines = headers.iter().flat_map(|text| text.lines());
        let mut defines = defines.filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
        let (_, value) = defines.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name}"));
        value.trim().parse().unwrap_or_else(|_| panic!("{name} is no number"))
    }

    #[test]
    fn the_kernel_has_the_same() {
        for (name, value) in [
            ("PC_TOKEN_MAX", TOKEN_MAX),
            ("PC_JOSE_MAX", JOSE_MAX),
            ("PC_JSON_DEPTH_MAX", JSON_DEPTH_MAX),
            ("PC_JSON_TOKENS_MAX", JSON_TOKENS_MAX),
            ("PC_JSON_ESCAPED_MAX", JSON_ESCAPED_MAX),
            ("PC_CLAIM_VALUES_MAX", CLAIM_VALUES_MAX),
            ("PC_NAME_MAX", NAME_MAX),
            ("PC_LEEWAY_MAX_S", LEEWAY_MAX_S as usize),
        ] {
            assert_eq!(defined(name), value, "{name}");
        }
    }
}
