//! Facts that stand on both sides of the kernel's border, once in C and once in core/: the copies are equal.

use portcullis_bpf::reason::REASONS;
use portcullis_bpf::{abi, limits};
use portcullis_wire::{Method, Reason};

#[test]
fn reasons_are_the_rows_of_reason_h() {
    assert_eq!(Reason::ALL.len(), REASONS.len());
    for (reason, row) in Reason::ALL.iter().zip(REASONS) {
        assert_eq!((reason.code(), reason.slug(), reason.text()), (row.code, row.slug, row.text));
        assert_eq!(reason.status().unwrap_or(0), row.status, "{reason}");
        assert_eq!(reason.error().unwrap_or_default(), row.error, "{reason}");
        assert_eq!(format!("{reason:?}"), camel_case(row.name));
        assert_eq!(Reason::from_code(row.code), Some(*reason));
        // bpf/lib/policy.h, pc_allowed
        assert_eq!(reason.is_allow(), row.code > 0 && row.code <= Reason::DefaultAllow.code(), "{reason}");
    }
}

#[test]
fn methods_have_the_numbers_of_abi_h() {
    assert_eq!(Method::ALL.len(), abi::method::COUNT);
    for (method, number) in [
        (Method::Other, abi::method::OTHER),
        (Method::Get, abi::method::GET),
        (Method::Post, abi::method::POST),
        (Method::Put, abi::method::PUT),
        (Method::Delete, abi::method::DELETE),
        (Method::Patch, abi::method::PATCH),
        (Method::Head, abi::method::HEAD),
        (Method::Options, abi::method::OPTIONS),
    ] {
        assert_eq!(usize::from(method.number()), number, "{method}");
    }
}

#[test]
fn limits_of_core_are_those_of_limits_h() {
    use portcullis_policy::limits as policy;

    assert_eq!(policy::NAME_MAX, limits::NAME_MAX);
    assert_eq!(policy::PATH_MAX, limits::PATH_MAX);
    // A host of the kernel side may be longer than any that exists, never shorter.
    const { assert!(policy::HOST_MAX <= limits::HOST_MAX) };
}

/// `TOKEN_MISSING` as `TokenMissing`.
fn camel_case(name: &str) -> String {
    name.split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_ascii_lowercase())).collect()
}
