//! A set of policies, validated as a whole.

use portcullis_wire as wire;

use crate::error::PolicyError;
use crate::index::PortIndex;
use crate::policy::Policy;
use crate::validate;

/// Policies that are valid one by one and together.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Vec<Policy>,
    pub(crate) index: PortIndex,
}

// === impl PolicySet ===

impl PolicySet {
    /// Validates policies; they keep their order.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, ordered by place.
    pub fn new(policies: Vec<wire::Policy>) -> Result<PolicySet, Vec<PolicyError>> {
        let policies = validate::policies(policies)?;
        let index = PortIndex::new(&policies);
        Ok(PolicySet { policies, index })
    }

    /// Every policy, disabled ones too, in the order that they were given in.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Whether some policy of the port enforces, so that what cannot even be read is refused; `None` when the port
    /// is not protected.
    #[must_use]
    pub fn port_enforces(&self, port: u16) -> Option<bool> {
        self.index.enforces(port)
    }
}
