//! Roles, permissions, groups and organisations that policies ask for: one bit each, for the whole generation.
//!
//! **Invariant:** names that no policy mentions have no bit, so a token's other roles cost nothing.

use std::collections::HashMap;

use portcullis_bpf::{abi, limits};

use super::error::{CompileError, within};
use super::tables::{Principal, PrincipalKind};

/// Numbers the names in order of first use.
#[derive(Debug, Default)]
pub(super) struct Principals {
    bits: HashMap<Principal, u32>,
    order: Vec<Principal>,
}

// === impl Principals ===

impl Principals {
    /// The bit of a name.
    pub(super) fn bit(&mut self, kind: PrincipalKind, name: &str) -> Result<u32, CompileError> {
        check_name(kind.noun(), name)?;
        let principal = Principal { kind, name: name.to_owned() };
        if let Some(bit) = self.bits.get(&principal) {
            return Ok(*bit);
        }
        let bit = self.order.len() as u32;
        within(
            "PC_PRINCIPALS_MAX",
            "different roles, permissions, groups and organisations",
            self.order.len() + 1,
            limits::PRINCIPALS_MAX,
            "name fewer of them in policies, or split the policies over agents",
        )?;
        self.order.push(principal.clone());
        self.bits.insert(principal, bit);
        Ok(bit)
    }

    /// Sets the bits of several names of a kind.
    pub(super) fn set<'a>(
        &mut self,
        mask: &mut abi::Bits,
        kind: PrincipalKind,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), CompileError> {
        for name in names {
            let bit = self.bit(kind, name)? as usize;
            mask.w[bit / 64] |= 1 << (bit % 64);
        }
        Ok(())
    }

    /// The names by bit.
    pub(super) fn into_names(self) -> Vec<Principal> {
        self.order
    }
}

/// Names become map keys of fixed size.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), CompileError> {
    if name.len() <= limits::NAME_MAX {
        return Ok(());
    }
    Err(CompileError::NameTooLong {
        what,
        name: name.chars().take(40).collect(),
        len: name.len(),
        max: limits::NAME_MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_bit_per_kind() {
        let mut principals = Principals::default();
        let mut bit = |kind, name: &str| principals.bit(kind, name).unwrap();
        assert_eq!(bit(PrincipalKind::Role, "admin"), 0);
        assert_eq!(bit(PrincipalKind::Group, "admin"), 1);
        assert_eq!(bit(PrincipalKind::Role, "admin"), 0);
    }

    #[test]
    fn more_names_than_bits_are_refused_with_the_bound() {
        let mut principals = Principals::default();
        for i in 0..limits::PRINCIPALS_MAX {
            principals.bit(PrincipalKind::Role, &format!("r{i}")).unwrap();
        }
        let error = principals.bit(PrincipalKind::Role, "one more").unwrap_err().to_string();
        assert!(
            error.contains("513") && error.contains("512") && error.contains("PC_PRINCIPALS_MAX"),
            "{error}"
        );
    }

    #[test]
    fn long_names_are_refused() {
        assert!(check_name("role", &"x".repeat(limits::NAME_MAX)).is_ok());
        let error = check_name("role", &"x".repeat(limits::NAME_MAX + 1)).unwrap_err().to_string();
        assert!(error.contains("241") && error.contains("240"), "{error}");
    }
}
