//! The Rust twins of abi.h against the layout that C sees.

#![cfg(feature = "host")]

use portcullis_bpf::{abi, host};

type Fields = Vec<(&'static str, usize, usize)>;

fn check(structure: &str, size: usize, fields: Fields) {
    let rows: Vec<_> = host::layout().into_iter().filter(|row| row.structure == structure).collect();
    let whole = rows.iter().find(|row| row.field.is_empty()).expect("structure in layout.h");
    assert_eq!(whole.size, size, "{structure}: size");
    for row in rows.iter().filter(|row| !row.field.is_empty()) {
        let twin = fields.iter().find(|field| field.0 == row.field);
        assert_eq!(twin.map(|f| (f.1, f.2)), Some((row.offset, row.size)), "{structure}.{}", row.field);
    }
    if rows.len() > 1 {
        assert_eq!(rows.len() - 1, fields.len(), "{structure}: number of fields");
    }
}

macro_rules! twins {
    ($($test:ident: $c:literal = $rust:ty),* $(,)?) => {
        $(#[test]
        fn $test() {
            check($c, size_of::<$rust>(), <$rust>::layout());
        })*
        const COMPARED: &[&str] = &[$($c),*];
    };
}
twins! {
    port: "pc_port" = abi::Port,
    cell: "pc_cell" = abi::Cell,
    classes: "pc_classes" = abi::Classes,
    policy: "pc_policy" = abi::Policy,
    set: "pc_set" = abi::Set,
    bits: "pc_bits" = abi::Bits,
    rule: "pc_rule" = abi::Rule,
    name: "pc_name" = abi::Name,
    issuer: "pc_issuer" = abi::Issuer,
    rsa2048_key: "pc_rsa2048_key" = abi::Rsa2048Key,
    rsa3072_key: "pc_rsa3072_key" = abi::Rsa3072Key,
    rsa4096_key: "pc_rsa4096_key" = abi::Rsa4096Key,
    p256_point: "pc_p256_point" = abi::P256Point,
    revocation: "pc_revocation" = abi::Revocation,
    secret: "pc_secret" = abi::Secret,
    clock: "pc_clock" = abi::Clock,
    text64: "pc_text64" = abi::Text64,
    identity: "pc_identity" = abi::Identity,
    conn: "pc_conn" = abi::Conn,
    tunnel: "pc_tunnel" = abi::Tunnel,
    event: "pc_event" = abi::Event,
    reply: "pc_reply" = abi::Reply,
    target: "pc_target" = abi::Target,
    stats: "pc_stats" = abi::Stats,
}

#[test]
fn every_structure_is_compared() {
    for row in host::layout() {
        assert!(COMPARED.contains(&row.structure.as_str()), "{} has no twin", row.structure);
    }
}

#[test]
fn every_slot_field_is_known() {
    for field in host::SlotField::ALL {
        assert!(field.offset() < host::slot_size());
    }
}
