//! Why a bundle cannot be compiled.

use portcullis_policy::PolicyError;

/// A bundle that cannot become a generation. The generation before it stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A vetted key is none that the kernel programs can verify with: vetting and programs are of different versions.
    #[error("issuer {issuer:?}, key {kid:?}: the kernel programs know no such key")]
    Key {
        /// The issuer.
        issuer: String,
        /// The key.
        kid: String,
    },
    /// A bound of the kernel side is exceeded.
    #[error("{count} {what}, but the kernel programs hold {max} ({bound}): {remedy}")]
    Limit {
        /// Name of the bound in limits.h.
        bound: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many the bundle needs.
        count: usize,
        /// How many there may be.
        max: usize,
        /// What to do.
        remedy: &'static str,
    },
    /// A name is longer than a map key holds.
    #[error(
        "{what} `{name}` has {len} bytes, but the kernel programs compare {max} (PC_NAME_MAX): use a shorter one"
    )]
    NameTooLong {
        /// Kind of name.
        what: &'static str,
        /// Its beginning.
        name: String,
        /// Its length, bytes.
        len: usize,
        /// How long it may be, bytes.
        max: usize,
    },
    /// Path patterns whose automaton is too large, which ones with several wildcards can make exponentially so.
    #[error(
        "the path patterns of policy `{policy}` are too many or too entangled to be matched in one pass: \
         write fewer with `**` inside, above all in front of other wildcards, or split the policy"
    )]
    Patterns {
        /// The policy.
        policy: String,
    },
    /// Policies are wrong.
    #[error("{}", lines(.0))]
    Policies(Vec<PolicyError>),
}

/// `Ok` when `count` is within the bound.
pub(super) fn within(
    bound: &'static str,
    what: &'static str,
    count: usize,
    max: usize,
    remedy: &'static str,
) -> Result<(), CompileError> {
    if count <= max { Ok(()) } else { Err(CompileError::Limit { bound, what, count, max, remedy }) }
}

fn lines(errors: &[PolicyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
