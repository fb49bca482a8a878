//! What is wrong with a policy, where, and what to write instead.

use serde::Serialize;

/// One thing that is wrong with one policy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("policy `{policy}`{rule}, {field}: {message}; {remedy}", rule = rule_place(.rule_index))]
pub struct PolicyError {
    /// Id of the policy, or its name when it has no id, or `#N` by position (from 1) when it has neither.
    pub policy: String,
    /// Position of the policy in the list, from 0.
    pub policy_index: usize,
    /// Position of the rule in the policy as it was written, from 0; absent when the policy itself is wrong.
    pub rule_index: Option<usize>,
    /// Field of the policy or the rule.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

/// Why a path or host pattern is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct PatternError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

// === impl PatternError ===

impl PatternError {
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> PatternError {
        PatternError { message: message.into(), remedy: remedy.into() }
    }
}

fn rule_place(index: &Option<usize>) -> String {
    index.map_or_else(String::new, |index| format!(", rule {}", index + 1))
}
