//! Bounds of the kernel side that a single policy can exceed, as `bpf/include/limits.h` sets them.
//!
//! Bounds on all policies together (their number, rules, ports, names) are the compiler's, which counts what it
//! really makes of them.

/// Longest role, permission, group, organisation, policy or rule id (bytes): `PC_NAME_MAX`.
pub const NAME_MAX: usize = 240;
/// Longest path pattern (bytes); a canonical path is no longer: `PC_PATH_MAX`.
pub const PATH_MAX: usize = 2048;
/// Longest host (bytes), RFC 1035 section 2.3.4; below `PC_HOST_MAX`.
pub const HOST_MAX: usize = 253;
/// Longest label of a host (bytes), RFC 1035 section 2.3.4.
pub const LABEL_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    /// Value of a `#define` of limits.h.
    fn defined(name: &str) -> usize {
        let header = include_str!("../../../bpf/include/limits.h");
        let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
        line.unwrap().trim().parse().unwrap()
    }

    #[test]
    fn limits_are_those_of_the_kernel_side() {
        assert_eq!(NAME_MAX, defined("PC_NAME_MAX"));
        assert_eq!(PATH_MAX, defined("PC_PATH_MAX"));
        assert!(HOST_MAX < defined("PC_HOST_MAX"));
    }
}
