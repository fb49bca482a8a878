//! One generation of configuration: what decides, and what the log calls it.

use std::collections::{BTreeSet, HashMap};

use portcullis_policy::PolicySet;
use portcullis_token::KeyStore;
use portcullis_wire::Bundle;

/// A generation.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) version: u64,
    pub(crate) policies: PolicySet,
    pub(crate) keys: KeyStore,
    /// Roles that some rule names: the others are nobody's business in a log.
    pub(crate) roles: BTreeSet<String>,
    /// Policies on trial, with their name.
    pub(crate) candidate: Option<(String, PolicySet)>,
    /// Rules in words, by policy and rule.
    words: HashMap<(String, String), String>,
}

// === impl Rules ===

impl Rules {
    /// Compiles a bundle. What is left out of it (unusable keys) comes beside it, in words.
    ///
    /// # Errors
    /// When a policy is wrong: every error, with its place and remedy.
    pub(crate) fn new(bundle: Bundle) -> Result<(Rules, Vec<String>), String> {
        let Bundle { version, issuers, policies, revocations, candidate } = bundle;
        let mut roles = BTreeSet::new();
        for rule in policies.iter().flat_map(|policy| &policy.rules) {
            let lists = [&rule.all_of, &rule.none_of].into_iter().flatten().flat_map(|list| &list.roles);
            roles.extend(rule.required_roles.iter().chain(lists).cloned());
        }
        let policies = PolicySet::new(policies).map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            texts.join("; ")
        })?;
        let (keys, problems) = KeyStore::new(&issuers);
        let keys = keys.with_revocations(&revocations);
        let mut words = HashMap::new();
        for policy in policies.policies() {
            for rule in policy.rules() {
                words.insert((policy.id().to_owned(), rule.id().to_owned()), rule.in_words());
            }
        }
        let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        // What is wrong with a candidate keeps nothing else out of force.
        let candidate = candidate.and_then(|candidate| match PolicySet::new(candidate.policies) {
            Ok(set) => Some((candidate.name, set)),
            Err(errors) => {
                problems
                    .extend(errors.iter().map(|error| format!("candidate `{}`: {error}", candidate.name)));
                None
            }
        });
        Ok((Rules { version, policies, keys, roles, candidate, words }, problems))
    }

    /// A rule in words.
    pub(crate) fn words(&self, policy: &str, rule: &str) -> Option<&str> {
        self.words.get(&(policy.to_owned(), rule.to_owned())).map(String::as_str)
    }
}
