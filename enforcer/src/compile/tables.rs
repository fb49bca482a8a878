//! What the numbers in events mean: the agent's side of a generation.

use portcullis_bpf::abi;

/// Names behind the numbers of one generation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// Version of the bundle.
    pub version: u64,
    /// By `pc_policy.id`.
    pub policies: Vec<PolicyEntry>,
    /// By `pc_rule.id`.
    pub rules: Vec<RuleEntry>,
    /// Issuer names by `pc_issuer.id`.
    pub issuers: Vec<String>,
    /// By bit of `pc_bits`.
    pub principals: Vec<Principal>,
    /// Name of the candidate, when there is one.
    pub candidate: Option<String>,
}

/// One policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyEntry {
    /// Identifier.
    pub id: String,
    /// Name for people.
    pub name: String,
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleEntry {
    /// Identifier, unique within the policy.
    pub id: String,
    /// The rule in words: `POST /api/patients/* requires role doctor`.
    pub text: String,
}

/// A name that a bit stands for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Principal {
    /// What kind of name.
    pub kind: PrincipalKind,
    /// The name.
    pub name: String,
}

/// Kinds of names that policies ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PrincipalKind {
    /// A role.
    Role,
    /// A permission.
    Permission,
    /// A group.
    Group,
    /// An organisation.
    Org,
}

// === impl Tables ===

impl Tables {
    /// Names of one kind among the bits of a token, in bit order.
    pub fn names(&self, bits: &abi::Bits, kind: PrincipalKind) -> Vec<String> {
        let set = |bit: usize| bits.w.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        let named = self.principals.iter().enumerate().filter(|(bit, p)| p.kind == kind && set(*bit));
        named.map(|(_, principal)| principal.name.clone()).collect()
    }
}

// === impl PrincipalKind ===

impl PrincipalKind {
    /// Its number in `pc_names` keys.
    pub fn number(self) -> u8 {
        match self {
            Self::Role => abi::name_kind::ROLE,
            Self::Permission => abi::name_kind::PERMISSION,
            Self::Group => abi::name_kind::GROUP,
            Self::Org => abi::name_kind::ORG,
        }
    }

    /// What it is called.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Permission => "permission",
            Self::Group => "group",
            Self::Org => "organisation",
        }
    }
}
