//! Decision reasons, from include/reason.h.

/// One row of reason.h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReasonRow {
    /// Number in events.
    pub code: u16,
    /// C name without `PC_R_`.
    pub name: &'static str,
    /// Stable name for programs.
    pub slug: &'static str,
    /// HTTP status; 0 = allow.
    pub status: u16,
    /// RFC 6750 error parameter; empty = left out.
    pub error: &'static str,
    /// For people.
    pub text: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/reasons.rs"));
