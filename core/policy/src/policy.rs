//! A policy and its rules, validated: what they say is resolved, and the rules are in evaluation order.

use portcullis_wire as wire;
use portcullis_wire::{Action, Auth, Method, Mode};

use crate::glob::Glob;
use crate::host::HostPattern;
use crate::index::RuleIndex;
use crate::words;

/// A validated policy.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) id: String,
    pub(crate) host: Option<HostPattern>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: RuleIndex,
    pub(crate) wire: wire::Policy,
}

/// A validated rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) id: String,
    pub(crate) position: usize,
    pub(crate) glob: Glob,
    pub(crate) methods: u8,
    pub(crate) auth: Auth,
    pub(crate) mode: Mode,
    pub(crate) wire: wire::Rule,
}

// === impl Policy ===

impl Policy {
    /// Identifier; the name of a policy that was given none.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.wire.name
    }

    /// Protected port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.wire.port_match
    }

    /// Hosts that it covers; `None`: all that no other policy of the port covers.
    #[must_use]
    pub fn host(&self) -> Option<&HostPattern> {
        self.host.as_ref()
    }

    /// What is done with a denial; a disabled policy takes no part in any decision.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.wire.mode
    }

    /// What happens when no rule matches.
    #[must_use]
    pub fn default_action(&self) -> Action {
        self.wire.default_action
    }

    /// Every rule in evaluation order, disabled ones too.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The policy as it was written.
    #[must_use]
    pub fn wire(&self) -> &wire::Policy {
        &self.wire
    }
}

// === impl Rule ===

impl Rule {
    /// Identifier; `rule-N` by position (from 1) of a rule that was given none.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Position in the policy as it was written, from 0.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Paths that it is about.
    #[must_use]
    pub fn glob(&self) -> &Glob {
        &self.glob
    }

    /// Methods that it is about: bit m stands for the method of number m.
    #[must_use]
    pub fn methods(&self) -> u8 {
        self.methods
    }

    /// Whether it is about every method, the ones that policies cannot name included.
    #[must_use]
    pub fn any_method(&self) -> bool {
        self.methods == u8::MAX
    }

    /// Whether it is about this method.
    #[must_use]
    pub fn covers_method(&self, method: Method) -> bool {
        self.methods >> method.number() & 1 == 1
    }

    /// Whether a token is needed, resolved.
    #[must_use]
    pub fn auth(&self) -> Auth {
        self.auth
    }

    /// The weaker of the policy's mode and its own; a disabled rule takes no part in any decision.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The rule as it was written.
    #[must_use]
    pub fn wire(&self) -> &wire::Rule {
        &self.wire
    }

    /// The rule in words, for logs: `POST /api/patients/* requires role doctor`.
    #[must_use]
    pub fn in_words(&self) -> String {
        words::rule(&self.wire, self.auth)
    }
}
