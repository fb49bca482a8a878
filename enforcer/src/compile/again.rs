//! Bundles one after the other: what does not change is not compiled again.
//!
//! Most changes are revocations, and they are in a hurry; automata of thousands of rules take their time.

use std::sync::Arc;

use portcullis_wire::Bundle;

use super::{CompileError, Compiled, Image, Tables, compile, keys, revocations};

/// Compiles bundles, and remembers the last one.
#[derive(Debug, Default)]
pub struct Compiler {
    last: Option<(Bundle, Arc<Compiled>)>,
}

// === impl Compiler ===

impl Compiler {
    /// As [`compile`], for the generation of this number. A bundle that differs from the last one in its version and its
    /// revocations only gets the last one's image with other revocations, which is the image that it would get.
    ///
    /// # Errors
    /// Those of [`compile`].
    pub fn compile(&mut self, bundle: &Bundle, generation: u64) -> Result<Arc<Compiled>, CompileError> {
        let last = self.last.as_ref().filter(|(last, _)| same_but_revocations(last, bundle));
        let mut compiled = match last {
            Some((_, last)) => with_revocations(last, bundle)?,
            None => compile(bundle)?,
        };
        compiled.tables.version = generation;
        let compiled = Arc::new(compiled);
        self.last = Some((bundle.clone(), compiled.clone()));
        Ok(compiled)
    }
}

fn same_but_revocations(a: &Bundle, b: &Bundle) -> bool {
    let Bundle { version: _, issuers, policies, revocations: _, candidate } = a;
    (issuers, policies, candidate) == (&b.issuers, &b.policies, &b.candidate)
}

fn with_revocations(last: &Compiled, bundle: &Bundle) -> Result<Compiled, CompileError> {
    let Compiled { image, tables, keys: _, problems: _, candidate_problem } = last;
    let (store, problems) = keys::trusted(&bundle.issuers);
    let keys = store.with_revocations(&bundle.revocations);
    let revocations = revocations::lower(&bundle.revocations, keys.issuers())?;
    Ok(Compiled {
        image: Image { revocations, ..image.clone() },
        tables: Tables { version: bundle.version, ..tables.clone() },
        keys,
        problems,
        candidate_problem: candidate_problem.clone(),
    })
}

#[cfg(test)]
mod tests {
    use portcullis_wire::{Action, Candidate, Issuer, Mode, Policy, Revocation, RevokedClaim};

    use super::*;

    fn policy(port_match: u16) -> Policy {
        let rules =
            serde_json::from_value(serde_json::json!([{ "method": "GET", "path_pattern": "/a/{id}" }]));
        Policy {
            id: format!("p{port_match}"),
            name: format!("p{port_match}"),
            port_match,
            host_match: None,
            mode: Mode::Enforce,
            default_action: Action::Deny,
            rules: rules.expect("rules"),
        }
    }

    fn bundle(version: u64) -> Bundle {
        let issuer = |issuer: &str| Issuer {
            issuer: issuer.to_owned(),
            audiences: vec!["a".to_owned()],
            ..Issuer::default()
        };
        let candidate = Candidate { name: "trial".to_owned(), policies: vec![policy(80), policy(99)] };
        Bundle {
            version,
            issuers: vec![issuer("i"), issuer("j")],
            policies: vec![policy(80)],
            revocations: Vec::new(),
            candidate: Some(candidate),
        }
    }

    fn revoked(issuer: &str, value: &str) -> Revocation {
        Revocation {
            issuer: issuer.to_owned(),
            claim: RevokedClaim::Sub,
            value: value.to_owned(),
            not_before: None,
            expires_at: 9,
        }
    }

    /// What comes out is what comes out without a memory.
    fn check(compiler: &mut Compiler, bundle: &Bundle) {
        let made = compiler.compile(bundle, bundle.version).expect("it compiles");
        assert_eq!(format!("{made:?}"), format!("{:?}", compile(bundle).expect("it compiles")));
    }

    #[test]
    fn the_image_is_the_one_that_it_would_be_without_a_memory() {
        let mut compiler = Compiler::default();
        let revocations = vec![revoked("j", "u"), revoked("nobody", "u")];
        check(&mut compiler, &bundle(1));
        check(&mut compiler, &Bundle { revocations: revocations.clone(), ..bundle(2) });
        check(&mut compiler, &Bundle { revocations: vec![revoked("i", "v")], ..bundle(3) });
        check(&mut compiler, &bundle(4));
        // Other things change, with revocations or without.
        check(
            &mut compiler,
            &Bundle { policies: vec![policy(81)], revocations: revocations.clone(), ..bundle(5) },
        );
        check(&mut compiler, &Bundle { candidate: None, revocations: revocations.clone(), ..bundle(6) });
        let fewer = bundle(7).issuers.split_off(1);
        check(&mut compiler, &Bundle { issuers: fewer, revocations, ..bundle(7) });
    }

    #[test]
    fn what_is_refused_is_refused_again_and_the_last_good_one_stays() {
        let mut compiler = Compiler::default();
        check(&mut compiler, &bundle(1));
        let many = (0..=portcullis_bpf::limits::REVOCATIONS_MAX).map(|n| revoked("i", &n.to_string()));
        let many = Bundle { revocations: many.collect(), ..bundle(2) };
        compiler.compile(&many, 2).expect_err("too many");
        compile(&many).expect_err("too many");
        check(&mut compiler, &Bundle { revocations: vec![revoked("i", "v")], ..bundle(3) });
    }
}
