//! bpf/lib built natively: map contents, the scratch slot, and the entry points, for tests and fuzzing.
//!
//! **Invariant:** the native maps are process-wide, so every use goes through [`Host`], of which one exists at a
//! time.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::abi::Identity;

/// Exclusive access to the native build; dropping it clears all maps.
pub struct Host {
    _guard: MutexGuard<'static, ()>,
}

/// Why a native map refused an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostMapError {
    /// No map has this name.
    UnknownMap,
    /// Key or value have another size.
    WrongSize,
    /// The map is full or the index is out of range.
    Full,
}

/// One row of the layout that C sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayoutRow {
    /// C structure.
    pub structure: String,
    /// Field; empty: the structure itself.
    pub field: String,
    /// Offset, bytes.
    pub offset: usize,
    /// Size, bytes.
    pub size: usize,
}

// === impl Host ===

impl Host {
    /// Waits for exclusive access; all maps are empty.
    pub fn new() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the guard makes this the only user of the native maps.
        unsafe { pc_host_reset() };
        Self { _guard: guard }
    }

    /// Sets one map entry.
    pub fn update(&mut self, map: &str, key: &[u8], value: &[u8]) -> Result<(), HostMapError> {
        let name = CString::new(map).map_err(|_| HostMapError::UnknownMap)?;
        // SAFETY: pointers and lengths describe live slices; C copies and checks the sizes.
        host_result(unsafe {
            pc_host_update(name.as_ptr(), key.as_ptr(), key.len(), value.as_ptr(), value.len())
        })
    }

    /// Deletes one entry of a hash map; an absent key is no error.
    pub fn delete(&mut self, map: &str, key: &[u8]) -> Result<(), HostMapError> {
        let name = CString::new(map).map_err(|_| HostMapError::UnknownMap)?;
        // SAFETY: as in `update`.
        match unsafe { pc_host_delete(name.as_ptr(), key.as_ptr(), key.len()) } {
            -3 => Ok(()),
            code => host_result(code),
        }
    }

    /// The bytes of the scratch slot, `struct pc_slot`.
    pub fn slot(&mut self) -> &mut [u8] {
        // SAFETY: the slot lives as long as the map, which only `new` resets; `&mut self` makes the view unique.
        unsafe { std::slice::from_raw_parts_mut(pc_host_slot(), pc_host_slot_size()) }
    }

    /// Copies bytes to `slot.head`, with the zero tail.
    pub fn load_head(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // SAFETY: the slice is live; C copies at most PC_HEAD_MAX bytes of it.
        unsafe { pc_host_load_head(bytes.as_ptr(), len) };
    }

    /// Reads a chunked body that arrives in pieces of at most `piece` bytes: its length, or `None` when its end is
    /// missing.
    ///
    /// # Errors
    /// The reason that refuses it.
    pub fn chunked(&mut self, body: &[u8], piece: usize) -> Result<Option<usize>, i32> {
        // SAFETY: the slice is live; C writes the slot alone, which `&mut self` makes ours.
        let end = unsafe { pc_host_chunked(body.as_ptr(), body.len() as u64, piece.max(1) as u64) };
        match usize::try_from(end) {
            Ok(0) => Ok(None),
            Ok(end) => Ok(Some(end)),
            Err(_) => Err(i32::try_from(-end).unwrap_or(i32::MAX)),
        }
    }

    /// Calls one of the slot functions.
    pub fn call(&mut self, function: HostFn) -> i32 {
        // SAFETY: every function takes the slot pointer and touches only the slot and the native maps.
        unsafe { (function.0)(pc_host_slot()) }
    }

    /// Writes the identity into the slot at the offset that C uses.
    pub fn set_identity(&mut self, identity: &Identity) {
        let offset = SlotField::ID.offset();
        let bytes = zerocopy::IntoBytes::as_bytes(identity);
        self.slot()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Sets a `u32` field of the slot.
    pub fn set_u32(&mut self, field: SlotField, value: u32) {
        let offset = field.offset();
        self.slot()[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// Sets a `u64` field of the slot.
    pub fn set_u64(&mut self, field: SlotField, value: u64) {
        let offset = field.offset();
        self.slot()[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// Reads a `u32` field of the slot.
    pub fn get_u32(&mut self, field: SlotField) -> u32 {
        let offset = field.offset();
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.slot()[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }

    /// Copies bytes into the slot from a field's start.
    pub fn set_bytes(&mut self, field: SlotField, bytes: &[u8]) {
        let offset = field.offset();
        self.slot()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// `len` bytes of the slot from a field's start.
    pub fn get_bytes(&mut self, field: SlotField, len: usize) -> Vec<u8> {
        let offset = field.offset();
        self.slot()[offset..offset + len].to_vec()
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// A C function `int f(struct pc_slot *)`.
#[derive(Clone, Copy)]
pub struct HostFn(unsafe extern "C" fn(*mut u8) -> c_int);

// === impl HostFn ===

impl HostFn {
    /// `pc_http_head`.
    pub const HEAD: Self = Self(pc_http_head);
    /// `pc_path`.
    pub const PATH: Self = Self(pc_path);
    /// `pc_host`.
    pub const HOST: Self = Self(pc_host);
    /// `pc_policy_match`.
    pub const POLICY_MATCH: Self = Self(pc_policy_match);
    /// `pc_policy_decide`.
    pub const POLICY_DECIDE: Self = Self(pc_policy_decide);
    /// `pc_candidate_match`.
    pub const CANDIDATE_MATCH: Self = Self(pc_candidate_match);
    /// `pc_candidate_decide`.
    pub const CANDIDATE_DECIDE: Self = Self(pc_candidate_decide);

    /// The token step of this name (tests/token_steps.h), if there is one.
    pub fn step(name: &str) -> Option<Self> {
        STEPS.iter().find(|step| step.0 == name).map(|step| Self(step.1))
    }
}

macro_rules! steps {
    ($($name:literal = $function:ident),* $(,)?) => {
        const STEPS: &[(&str, unsafe extern "C" fn(*mut u8) -> c_int)] = &[$(($name, $function)),*];

        unsafe extern "C" {
            $(fn $function(slot: *mut u8) -> c_int;)*
        }
    };
}
steps! {
    "sha256" = pc_host_step_sha256,
    "rsa2048" = pc_host_step_rsa2048,
    "rsa3072" = pc_host_step_rsa3072,
    "rsa4096" = pc_host_step_rsa4096,
    "p256" = pc_host_step_p256,
    "b64url" = pc_host_step_b64url,
    "json" = pc_host_step_json,
    "jwt_parse" = pc_host_step_jwt_parse,
    "jwt_rs256_2048" = pc_host_step_jwt_rs256_2048,
    "jwt_rs256_3072" = pc_host_step_jwt_rs256_3072,
    "jwt_rs256_4096" = pc_host_step_jwt_rs256_4096,
    "jwt_es256" = pc_host_step_jwt_es256,
    "cache_get" = pc_host_step_cache_get,
    "cache_put" = pc_host_step_cache_put,
    "refused_get" = pc_host_step_refused_get,
    "refused_put" = pc_host_step_refused_put,
    "revoked" = pc_host_step_revoked,
    "budget_open" = pc_host_step_budget_open,
    "budget_close" = pc_host_step_budget_close,
    "memo_read" = pc_host_step_memo_read,
    "memo_learn" = pc_host_step_memo_learn,
    "memo_try" = pc_host_step_memo_try,
    "walk" = pc_host_step_walk,
}

macro_rules! slot_fields {
    ($($(#[$meta:meta])* $name:ident = $c:literal),* $(,)?) => {
        /// Fields of `struct pc_slot` that tests set or read; offsets come from C.
        #[derive(Clone, Copy, Debug)]
        pub struct SlotField(&'static CStr);

        impl SlotField {
            $($(#[$meta])* pub const $name: Self = Self($c);)*

            /// Every field.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}
slot_fields! {
    /// `n`.
    N = c"n",
    /// `h`.
    PARSED = c"h",
    /// `h.method`.
    METHOD = c"h.method",
    /// `h.tgt`.
    TARGET = c"h.tgt",
    /// `h.tlen`.
    TARGET_LEN = c"h.tlen",
    /// `h.seen`.
    SEEN = c"h.seen",
    /// `h.minor`.
    MINOR = c"h.minor",
    /// `h.tok`.
    TOKEN = c"h.tok",
    /// `h.tok_len`.
    TOKEN_LEN = c"h.tok_len",
    /// `h.content_length`.
    CONTENT_LENGTH = c"h.content_length",
    /// `d.half`.
    HALF = c"d.half",
    /// `d.port`.
    PORT = c"d.port",
    /// `d.policy`.
    POLICY = c"d.policy",
    /// `d.rule`.
    RULE = c"d.rule",
    /// `d.need`.
    NEED = c"d.need",
    /// `d.reason`.
    REASON = c"d.reason",
    /// `d.mode`.
    MODE = c"d.mode",
    /// `d.mfa_max_age_s`.
    MFA_MAX_AGE = c"d.mfa_max_age_s",
    /// `d.token`.
    DEPENDS_ON_TOKEN = c"d.token",
    /// `c.candidate`.
    CANDIDATE = c"c.candidate",
    /// `c.need`.
    CANDIDATE_NEED = c"c.need",
    /// `c.policy`.
    CANDIDATE_POLICY = c"c.policy",
    /// `c.rule`.
    CANDIDATE_RULE = c"c.rule",
    /// `c.reason`.
    CANDIDATE_REASON = c"c.reason",
    /// `token_state`.
    TOKEN_STATE = c"token_state",
    /// `token_reason`.
    TOKEN_REASON = c"token_reason",
    /// `id`.
    ID = c"id",
    /// `path_len`.
    PATH_LEN = c"path_len",
    /// `host_len`.
    HOST_LEN = c"host_len",
    /// `path`.
    PATH = c"path",
    /// `host`.
    HOST = c"host",
    /// `head`.
    HEAD = c"head",
    /// `jwt`.
    JWT = c"jwt",
    /// `jwt.tok`.
    JWT_TOKEN = c"jwt.tok",
    /// `jwt.tok_len`.
    JWT_TOKEN_LEN = c"jwt.tok_len",
    /// `jwt.half`.
    JWT_HALF = c"jwt.half",
    /// `jwt.now_s`.
    JWT_NOW = c"jwt.now_s",
    /// `jwt.reason`.
    JWT_REASON = c"jwt.reason",
    /// `jwt.alg`.
    JWT_ALG = c"jwt.alg",
    /// `jwt.key`.
    JWT_KEY = c"jwt.key",
    /// `jwt.issuer`.
    JWT_ISSUER = c"jwt.issuer",
    /// `jwt.end`.
    JWT_END = c"jwt.end",
    /// `jwt.mask`.
    JWT_MASK = c"jwt.mask",
    /// `jwt.seen`.
    JWT_SEEN = c"jwt.seen",
    /// `jwt.nvals`.
    JWT_VALUES = c"jwt.nvals",
    /// `jwt.mfa`.
    JWT_MFA = c"jwt.mfa",
    /// `jwt.exp`.
    JWT_EXP = c"jwt.exp",
    /// `jwt.nbf`.
    JWT_NBF = c"jwt.nbf",
    /// `jwt.iat`.
    JWT_IAT = c"jwt.iat",
    /// `jwt.auth_time`.
    JWT_AUTH_TIME = c"jwt.auth_time",
    /// `jwt.v`, 8 bytes each.
    JWT_VALUE = c"jwt.v",
    /// `jwt.json`.
    JWT_JSON = c"jwt.json",
    /// `jwt.sha`.
    JWT_SHA = c"jwt.sha",
    /// `d.generation`.
    GENERATION = c"d.generation",
    /// `run.entry_ns`.
    ENTRY_NS = c"run.entry_ns",
    /// `run.verify_start_ns`.
    VERIFY_START_NS = c"run.verify_start_ns",
    /// `cached.id`.
    CACHED_ID = c"cached.id",
    /// `fingerprint`.
    FINGERPRINT = c"fingerprint",
    /// `rsa`.
    RSA = c"rsa",
    /// `p256`.
    P256 = c"p256",
}

// === impl SlotField ===

impl SlotField {
    /// Offset in `struct pc_slot`, bytes.
    ///
    /// # Panics
    /// When C does not know the field: the two lists differ, which `tests/layout.rs` catches.
    pub fn offset(self) -> usize {
        // SAFETY: the name is a C string; C compares it with its own table.
        let offset = unsafe { pc_host_slot_offset(self.0.as_ptr()) };
        assert!(offset != usize::MAX, "bpf/host/layout.h lacks slot field {:?}", self.0);
        offset
    }
}

/// Size of `struct pc_slot`, bytes.
pub fn slot_size() -> usize {
    // SAFETY: a pure function.
    unsafe { pc_host_slot_size() }
}

/// Sizes and offsets as C sees them.
pub fn layout() -> Vec<LayoutRow> {
    let mut rows = std::ptr::null();
    // SAFETY: C stores a pointer to a static table and returns its length.
    let rows = unsafe {
        let count = pc_host_layout(&raw mut rows);
        std::slice::from_raw_parts(rows, count)
    };
    let text = |p: *const c_char| {
        // SAFETY: the table holds C string literals.
        unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()
    };
    rows.iter()
        .map(|row| LayoutRow {
            structure: text(row.structure),
            field: text(row.field),
            offset: row.offset,
            size: row.size,
        })
        .collect()
}

fn host_result(code: c_int) -> Result<(), HostMapError> {
    match code {
        0 => Ok(()),
        -1 => Err(HostMapError::UnknownMap),
        -2 => Err(HostMapError::WrongSize),
        _ => Err(HostMapError::Full),
    }
}

#[repr(C)]
struct CLayoutRow {
    structure: *const c_char,
    field: *const c_char,
    offset: usize,
    size: usize,
}

unsafe extern "C" {
    fn pc_host_reset();
    fn pc_host_update(
        name: *const c_char,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> c_int;
    fn pc_host_delete(name: *const c_char, key: *const u8, key_size: usize) -> c_int;
    fn pc_host_slot() -> *mut u8;
    fn pc_host_slot_size() -> usize;
    fn pc_host_slot_offset(name: *const c_char) -> usize;
    fn pc_host_load_head(bytes: *const u8, len: u32) -> u32;
    fn pc_host_chunked(body: *const u8, len: u64, piece: u64) -> i64;
    fn pc_host_layout(rows: *mut *const CLayoutRow) -> usize;
    fn pc_http_head(slot: *mut u8) -> c_int;
    fn pc_path(slot: *mut u8) -> c_int;
    fn pc_host(slot: *mut u8) -> c_int;
    fn pc_policy_match(slot: *mut u8) -> c_int;
    fn pc_policy_decide(slot: *mut u8) -> c_int;
    fn pc_candidate_match(slot: *mut u8) -> c_int;
    fn pc_candidate_decide(slot: *mut u8) -> c_int;
}
