//! Rust twins of include/abi.h: map keys, map values, ring-buffer records.
//!
//! **Invariant:** no implicit padding (zerocopy refuses it); sizes and offsets equal C's (`tests/layout.rs`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::{
    EVENT_HOST_MAX, EVENT_METHOD_MAX, EVENT_PATH_MAX, HALVES, NAME_MAX, PRINCIPAL_WORDS, RSA2048_LIMBS,
    RSA3072_LIMBS, RSA4096_LIMBS, TOKEN_MAX,
};

/// Tag of cells that say where a state leads, `PC_CELL_OF`.
pub const CELL_OF: u32 = 0x8000_0000;

/// Modes, `enum pc_mode`.
pub mod mode {
    /// Not attached.
    pub const DISABLED: u8 = 0;
    /// Logged only.
    pub const MONITOR: u8 = 1;
    /// Enforced.
    pub const ENFORCE: u8 = 2;
}
/// Default actions, `enum pc_action`.
pub mod action {
    /// Deny what no rule matches.
    pub const DENY: u8 = 0;
    /// Allow what no rule matches.
    pub const ALLOW: u8 = 1;
}
/// Token needs, `enum pc_auth`.
pub mod auth {
    /// No token.
    pub const NONE: u8 = 0;
    /// A token may be sent.
    pub const OPTIONAL: u8 = 1;
    /// A token must be sent.
    pub const REQUIRED: u8 = 2;
}
/// Methods, `enum pc_method`.
pub mod method {
    /// Any method that policies cannot name.
    pub const OTHER: usize = 0;
    /// GET.
    pub const GET: usize = 1;
    /// POST.
    pub const POST: usize = 2;
    /// PUT.
    pub const PUT: usize = 3;
    /// DELETE.
    pub const DELETE: usize = 4;
    /// PATCH.
    pub const PATCH: usize = 5;
    /// HEAD.
    pub const HEAD: usize = 6;
    /// OPTIONS.
    pub const OPTIONS: usize = 7;
    /// How many there are.
    pub const COUNT: usize = 8;
}
/// Rule flags, `PC_RULE_*`.
pub mod rule_flag {
    /// MFA is required.
    pub const MFA: u32 = 1;
    /// `any_roles` holds.
    pub const ANY_ROLE: u32 = 2;
    /// `any_permissions` holds.
    pub const ANY_PERMISSION: u32 = 4;
    /// `any_groups` holds.
    pub const ANY_GROUP: u32 = 8;
    /// `all_of` holds.
    pub const ALL_OF: u32 = 16;
    /// `none_of` holds.
    pub const NONE_OF: u32 = 32;
    /// `org` holds.
    pub const ORG: u32 = 64;
    /// A protocol upgrade may pass.
    pub const UPGRADE: u32 = 128;
}
/// Kinds of `pc_names` keys, `enum pc_name_kind`.
pub mod name_kind {
    /// Role, to a bit.
    pub const ROLE: u8 = 1;
    /// Permission, to a bit.
    pub const PERMISSION: u8 = 2;
    /// Group, to a bit.
    pub const GROUP: u8 = 3;
    /// Organisation, to a bit.
    pub const ORG: u8 = 4;
    /// Issuer, to its index.
    pub const ISSUER: u8 = 5;
    /// Audience of an issuer.
    pub const AUDIENCE: u8 = 6;
    /// Key of an issuer, to `alg << 16 | index`.
    pub const KID: u8 = 7;
    /// Key of `pc_revoked`: `sub` of an issuer.
    pub const REVOKED_SUB: u8 = 16;
    /// Key of `pc_revoked`: `sid` of an issuer.
    pub const REVOKED_SID: u8 = 17;
    /// Key of `pc_revoked`: `jti` of an issuer.
    pub const REVOKED_JTI: u8 = 18;
    /// Key of `pc_revoked`: `org_id` of an issuer.
    pub const REVOKED_ORG: u8 = 19;
}
/// Algorithms, `enum pc_alg`.
pub mod alg {
    /// RS256 with a 2048-bit modulus.
    pub const RS256_2048: u32 = 1;
    /// RS256 with a 3072-bit modulus.
    pub const RS256_3072: u32 = 2;
    /// RS256 with a 4096-bit modulus.
    pub const RS256_4096: u32 = 3;
    /// ES256.
    pub const ES256: u32 = 4;
}
/// Flags of `pc_port`.
pub mod port_flag {
    /// Something on the port enforces.
    pub const ENFORCE: u32 = 1;
    /// Some rule of the port lets a connection switch to websocket.
    pub const UPGRADE: u32 = 2;
}
/// Flags of `pc_identity`.
pub mod identity_flag {
    /// `mfa_verified` is true.
    pub const MFA: u32 = 1;
    /// `nbf` is present.
    pub const NBF: u32 = 2;
    /// `iat` is present.
    pub const IAT: u32 = 4;
    /// `auth_time` is present.
    pub const AUTH_TIME: u32 = 8;
}
/// States of a connection's stream, `enum pc_state`.
pub mod conn_state {
    /// A request head is next.
    pub const HEAD: u32 = 0;
    /// A request to switch to websocket was passed and is not answered yet.
    pub const UPGRADE: u32 = 10;
    /// Not followed any more (monitor mode), or switched to websocket.
    pub const OPAQUE: u32 = 11;
    /// Nothing passes any more.
    pub const POISON: u32 = 12;
    /// Adopted in the middle of its stream.
    pub const SEEKING: u32 = 13;
}
/// Flags of `pc_conn`.
pub mod conn_flag {
    /// Its socket is in `pc_socks`.
    pub const CONTROLLED: u32 = 1;
    /// It speaks websocket, by a rule.
    pub const SWITCHED: u32 = 2;
    /// A process of this host opened it.
    pub const OUTGOING: u32 = 4;
    /// It is older than the monitoring of its port.
    pub const ADOPTED: u32 = 8;
}
/// Flags of `pc_event`.
pub mod event_flag {
    /// The token came from the cache.
    pub const CACHE_HIT: u16 = 1;
    /// The token was verified, now or earlier.
    pub const TOKEN_VERIFIED: u16 = 2;
    /// Monitor mode let a denial pass.
    pub const WOULD_DENY: u16 = 4;
    /// `saddr` is IPv6.
    pub const IPV6: u16 = 8;
    /// A bearer token was sent.
    pub const TOKEN_SENT: u16 = 16;
    /// The token says MFA.
    pub const MFA: u16 = 32;
}
/// Kinds of `pc_reply`.
pub mod reply_kind {
    /// Answer the request.
    pub const SEND: u16 = 1;
    /// Destroy the connection.
    pub const DESTROY: u16 = 2;
}
/// `PC_INJECTED*`: what became of a reply.
pub mod injected {
    /// The program did not run.
    pub const UNSEEN: u32 = 0;
    /// Nobody waits for one.
    pub const NOT: u32 = 1;
    /// It went to the client.
    pub const SENT: u32 = 2;
    /// It would have to close the connection and does not: another one is due.
    pub const MUST_CLOSE: u32 = 3;
}

macro_rules! twin {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }

        impl $name {
            /// All zero.
            pub fn zeroed() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }

            /// Name, offset and size of each field.
            pub fn layout() -> Vec<(&'static str, usize, usize)> {
                vec![$((stringify!($field), core::mem::offset_of!($name, $field), core::mem::size_of::<$type>()),)*]
            }
        }
    };
}

twin! {
    /// `struct pc_port`.
    Port {
        /// `port_flag::*`.
        flags: u32,
        /// Handshakes of which the guard dropped data. The programs count.
        held: u32,
        /// Start of the reversed-host automaton by half.
        host_row: [u32; HALVES],
        /// Policy without host, index + 1, by half.
        policy: [u32; HALVES],
        /// Whether unreadable requests are refused, by half.
        enforce: [u32; HALVES],
        /// As `host_row`, of the candidate policies.
        candidate_host_row: [u32; HALVES],
        /// As `policy`, of the candidate policies.
        candidate_policy: [u32; HALVES],
        /// Whether there are candidate policies, by half.
        candidate: [u32; HALVES],
        /// Whether some rule lets a connection switch to websocket, by half.
        upgrade: [u32; HALVES],
        /// The kernel's, while it writes the entry in place.
        lock: u32,
    }
}
twin! {
    /// `struct pc_cell`: a state of an automaton, or where one leads for a class.
    Cell {
        /// Row of the next state; in a state: of the default one.
        row: u32,
        /// [`CELL_OF`] and the row of the state that it belongs to; in a state: what that accepts.
        tag: u32,
    }
}
twin! {
    /// `struct pc_classes`.
    Classes {
        /// Class of each byte.
        c: [u8; 256],
    }
}
twin! {
    /// `struct pc_policy`.
    Policy {
        /// Index into the agent's table.
        id: u32,
        /// `mode::*`.
        mode: u8,
        /// `action::*`.
        default_action: u8,
        /// Zero.
        pad: [u8; 2],
        /// Start row of the path automaton.
        path_row: u32,
        /// Zero.
        pad2: u32,
    }
}
twin! {
    /// `struct pc_set`.
    Set {
        /// Rule index + 1 by method.
        rule: [u32; method::COUNT],
    }
}
twin! {
    /// `struct pc_bits`.
    #[derive(Eq, PartialEq)]
    Bits {
        /// Words, bit 0 first.
        w: [u64; PRINCIPAL_WORDS],
    }
}
twin! {
    /// `struct pc_rule`.
    Rule {
        /// Index into the agent's table.
        id: u32,
        /// `rule_flag::*`.
        flags: u32,
        /// `auth::*`.
        auth: u8,
        /// `mode::*`.
        mode: u8,
        /// Zero.
        pad: [u8; 2],
        /// Greatest age of `auth_time`, 0 = any.
        mfa_max_age_s: u32,
        /// Bit of the organisation.
        org: u32,
        /// Zero.
        pad2: u32,
        /// Any of these roles.
        any_roles: Bits,
        /// Any of these permissions.
        any_permissions: Bits,
        /// Any of these groups.
        any_groups: Bits,
        /// All of these.
        all_of: Bits,
        /// None of these.
        none_of: Bits,
    }
}
twin! {
    /// `struct pc_name`, a key.
    Name {
        /// Configuration half.
        half: u8,
        /// `name_kind::*`.
        kind: u8,
        /// Bytes used in `s`.
        len: u16,
        /// Issuer index for audiences and kids, else 0.
        scope: u32,
        /// The name, zero-padded.
        s: [u8; NAME_MAX],
    }
}
twin! {
    /// `struct pc_issuer`.
    Issuer {
        /// Index into the agent's table.
        id: u32,
        /// Leeway, seconds.
        leeway_s: u32,
    }
}
twin! {
    /// `struct pc_rsa2048_key`; lib/rsa.h has the meaning.
    Rsa2048Key {
        /// The modulus n times `m`, which is -1 mod a limb.
        n: [i32; RSA2048_LIMBS],
        /// `m * (-R^-65535 mod n)`.
        c1: [i32; RSA2048_LIMBS],
        /// `m * (-EM0 * R^-65535 mod n)`.
        k1: [i32; RSA2048_LIMBS],
        /// `-n^-1` mod a limb.
        m: u32,
        /// Zero.
        pad: u32,
    }
}
twin! {
    /// `struct pc_rsa3072_key`; lib/rsa.h has the meaning.
    Rsa3072Key {
        /// The modulus n times `m`, which is -1 mod a limb.
        n: [i32; RSA3072_LIMBS],
        /// `m * (-R^-65535 mod n)`.
        c1: [i32; RSA3072_LIMBS],
        /// `m * (-EM0 * R^-65535 mod n)`.
        k1: [i32; RSA3072_LIMBS],
        /// `-n^-1` mod a limb.
        m: u32,
        /// Zero.
        pad: u32,
    }
}
twin! {
    /// `struct pc_rsa4096_key`; lib/rsa.h has the meaning.
    Rsa4096Key {
        /// The modulus n times `m`, which is -1 mod a limb.
        n: [i32; RSA4096_LIMBS],
        /// `m * (-R^-65535 mod n)`.
        c1: [i32; RSA4096_LIMBS],
        /// `m * (-EM0 * R^-65535 mod n)`.
        k1: [i32; RSA4096_LIMBS],
        /// `-n^-1` mod a limb.
        m: u32,
        /// Zero.
        pad: u32,
    }
}
twin! {
    /// `struct pc_p256_point`: affine coordinates times 2^261 mod p.
    #[derive(Eq, PartialEq)]
    P256Point {
        /// Words, least significant first.
        x: [u64; 4],
        /// Words, least significant first.
        y: [u64; 4],
    }
}
twin! {
    /// `struct pc_revocation`.
    Revocation {
        /// Tokens with an earlier `iat`, or none, are refused; Unix seconds.
        not_before: u64,
    }
}
twin! {
    /// `struct pc_secret`.
    Secret {
        /// Random, not zero.
        key: [u64; 2],
    }
}
twin! {
    /// `struct pc_clock`.
    Clock {
        /// Unix time minus boot time, ns.
        boot_to_unix_ns: i64,
    }
}
twin! {
    /// `struct pc_text64`.
    Text64 {
        /// Full length, capped at 255.
        len: u8,
        /// First 63 bytes.
        s: [u8; 63],
    }
}
twin! {
    /// `struct pc_identity`.
    Identity {
        /// Unix seconds.
        exp: u64,
        /// Unix seconds, when flagged.
        nbf: u64,
        /// Unix seconds, when flagged.
        iat: u64,
        /// Unix seconds, when flagged.
        auth_time: u64,
        /// `identity_flag::*`.
        flags: u32,
        /// Issuer index.
        issuer: u32,
        /// Principals.
        bits: Bits,
        /// `sub`.
        sub: Text64,
        /// `email`.
        email: Text64,
        /// Full length of the kid.
        kid_len: u8,
        /// First bytes of the kid.
        kid: [u8; 31],
    }
}
twin! {
    /// `struct pc_conn`.
    Conn {
        /// Bytes of body or chunk left.
        remain: u64,
        /// Unix seconds from which on a websocket connection passes nothing; 0: no bound.
        until: u64,
        /// `conn_state::*`.
        state: u32,
        /// `conn_flag::*`.
        flags: u32,
        /// The request in hand was denied.
        denied: u32,
        /// TCP sequence number that comes next.
        exp_seq: u32,
        /// Buffers seen.
        skbs: u32,
        /// Scratch slot + 1 while a run is under way.
        slot: u32,
        /// Requests seen.
        requests: u32,
        /// A request was passed.
        owed: u32,
        /// `write_seq` when it was.
        pass_wseq: u32,
        /// `write_seq` at the first unanswered denial.
        deny_wseq: u32,
        /// Replies asked of the agent, not yet injected; top bit: the last of them closes.
        pending: u32,
        /// Bytes injected since `deny_wseq`.
        injected: u32,
        /// A reply was ever asked of the agent.
        asked: u32,
        /// Bytes of a split head kept.
        head_n: u32,
        /// Position within chunk framing.
        chunk_digits: u32,
        /// Bytes of the trailer section.
        trailer: u32,
        /// The last request was kept.
        memo: u32,
        /// Requests kept since one was recognised.
        memo_vain: u32,
        /// The client's end must not reach the application.
        torn: u32,
        /// The application has not got the kept part of a head.
        withheld: u32,
        /// The client's end was dropped.
        ended: u32,
        /// TCP sequence number behind which it comes.
        end_seq: u32,
    }
}
twin! {
    /// `struct pc_tunnel`.
    Tunnel {
        /// Unix seconds until which the token is good, leeway included; 0: no bound.
        until: u64,
        /// Peer address; IPv4 in the first four bytes.
        saddr: [u8; 16],
        /// Local address.
        daddr: [u8; 16],
        /// Peer port.
        sport: u16,
        /// Local port.
        dport: u16,
        /// Addresses are IPv6.
        ipv6: u8,
        /// Zero.
        pad: [u8; 3],
        /// Bytes used in `token`.
        len: u32,
        /// Index of the device that the socket is bound to, 0: none.
        device: u32,
        /// The token, as it was sent.
        token: [u8; TOKEN_MAX],
    }
}
twin! {
    /// `struct pc_event`.
    Event {
        /// CLOCK_BOOTTIME of the decision.
        boot_ns: u64,
        /// Decision id.
        decision: u64,
        /// Generation.
        generation: u64,
        /// Socket cookie.
        cookie: u64,
        /// Time in the program.
        kernel_ns: u32,
        /// Time of verification.
        verify_ns: u32,
        /// Policy id + 1.
        policy: u32,
        /// Rule id + 1.
        rule: u32,
        /// Policy id + 1 of the candidate.
        candidate_policy: u32,
        /// Rule id + 1 of the candidate.
        candidate_rule: u32,
        /// Reason code of the candidate; 0: there is none for the port.
        candidate_reason: u16,
        /// Zero.
        pad: [u16; 3],
        /// Reason code.
        reason: u16,
        /// HTTP status, 0 = allowed.
        status: u16,
        /// `event_flag::*`.
        flags: u16,
        /// `mode::*`.
        mode: u8,
        /// `method::*`.
        method: u8,
        /// Local port.
        dport: u16,
        /// Peer port.
        sport: u16,
        /// Peer address.
        saddr: [u8; 16],
        /// Full length of the path.
        path_len: u16,
        /// Full length of the host.
        host_len: u16,
        /// Principals of a verified token.
        bits: Bits,
        /// `sub`.
        sub: Text64,
        /// `email`.
        email: Text64,
        /// Full length of the kid.
        kid_len: u8,
        /// First bytes of the kid.
        kid: [u8; 31],
        /// Method as sent, truncated.
        method_text: [u8; EVENT_METHOD_MAX],
        /// Host, truncated.
        host: [u8; EVENT_HOST_MAX],
        /// Path, truncated.
        path: [u8; EVENT_PATH_MAX],
    }
}
twin! {
    /// `struct pc_reply`.
    Reply {
        /// Socket cookie.
        cookie: u64,
        /// Decision id.
        decision: u64,
        /// CLOCK_BOOTTIME of the decision.
        boot_ns: u64,
        /// `reply_kind::*`.
        kind: u16,
        /// HTTP status.
        status: u16,
        /// Reason code.
        reason: u16,
        /// Send `Connection: close`.
        close: u8,
        /// The request was HEAD.
        head_request: u8,
        /// Peer address.
        saddr: [u8; 16],
        /// Local address.
        daddr: [u8; 16],
        /// Peer port.
        sport: u16,
        /// Local port.
        dport: u16,
        /// Addresses are IPv6.
        ipv6: u8,
        /// Zero.
        pad: [u8; 3],
        /// For an RFC 9470 challenge.
        mfa_max_age_s: u32,
        /// Index of the device that the socket is bound to, 0: none.
        device: u32,
    }
}
twin! {
    /// `struct pc_target`.
    Target {
        /// Socket cookie, 0 = prime the sink.
        cookie: u64,
        /// The reply closes the connection.
        last: u32,
        /// What became of it, see [`injected`].
        injected: u32,
    }
}
twin! {
    /// `struct pc_stats`, per CPU.
    #[derive(Default)]
    Stats {
        /// Connections taken under control.
        conns: u64,
        /// Connections that could not be.
        conn_refused: u64,
        /// Runs of the verdict program.
        verdicts: u64,
        /// Requests decided.
        requests: u64,
        /// Allowed.
        allowed: u64,
        /// Denied.
        denied: u64,
        /// Denials that monitor mode let pass.
        would_deny: u64,
        /// Bytes passed to applications.
        passed_bytes: u64,
        /// Bytes dropped.
        dropped_bytes: u64,
        /// Denials handed to the agent.
        replies_agent: u64,
        /// Denials answered in the kernel.
        replies_kernel: u64,
        /// Denials that nobody answers.
        no_reply: u64,
        /// Injections refused.
        inject_refused: u64,
        /// Connections poisoned.
        poisoned: u64,
        /// Streams that were not seen in order.
        stream_gap: u64,
        /// Overlaps trimmed.
        trimmed: u64,
        /// Packets dropped by the guard.
        guard_dropped: u64,
        /// Runs without a free slot.
        no_slot: u64,
        /// Runs without a connection entry.
        no_conn: u64,
        /// Events lost to a full ring.
        events_lost: u64,
        /// Tail calls that failed.
        tail_call_failed: u64,
        /// Tokens found in the cache.
        cache_hit: u64,
        /// Tokens not found.
        cache_miss: u64,
        /// Signatures that verified.
        verify_ok: u64,
        /// Tokens that did not verify.
        verify_bad: u64,
        /// Heads that were recognised.
        memo_hit: u64,
        /// Requests to switch to websocket that no room was for.
        tunnel_refused: u64,
    }
}
