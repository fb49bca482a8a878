//! Evaluation order of the rules of a policy.
//!
//! **Invariant:** the order is total and depends on the rules only, not on where they stand in the file: ids are
//! unique within a policy.

use std::cmp::{Ordering, Reverse};

use crate::policy::Rule;

/// Priority descending, then longer literal path prefix, then a named method before `*`, then id by bytes.
pub(crate) fn compare(a: &Rule, b: &Rule) -> Ordering {
    weight(a).cmp(&weight(b)).then_with(|| a.id.cmp(&b.id))
}

/// What decides before ids do.
pub(crate) fn weight(rule: &Rule) -> (Reverse<i32>, Reverse<usize>, bool) {
    (Reverse(rule.wire.priority), Reverse(rule.glob.literal_prefix_len()), rule.any_method())
}

#[cfg(test)]
mod tests {
    use portcullis_wire::Rule as WireRule;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{deciding, named, pattern, policy, set};

    /// Ids in evaluation order, from rules written in an order of their own.
    #[track_caller]
    fn check(rules: Vec<WireRule>, expected: &[&str]) {
        for rules in [rules.clone(), rules.into_iter().rev().collect()] {
            let set = set(vec![policy(rules)]);
            let ids: Vec<&str> = set.policies()[0].rules().iter().map(Rule::id).collect();
            assert_eq!(ids, expected);
        }
    }

    #[test]
    fn higher_priority_comes_first() {
        let at = |id, priority| WireRule { priority, ..named(id, "GET /a") };
        check(vec![at("low", -1), at("high", 5), at("mid", 0)], &["high", "mid", "low"]);
    }

    #[test]
    fn longer_literal_prefix_comes_first() {
        let rules =
            [("any", "/*"), ("api", "/api/*"), ("exact", "/api/users"), ("id", "/api/{x}"), ("u", "/api/u*")];
        let rules = rules.map(|(id, path)| named(id, &format!("* {path}")));
        check(rules.to_vec(), &["exact", "u", "id", "api", "any"]);
    }

    #[test]
    fn named_method_comes_before_any_method() {
        check(vec![named("a", "* /x"), named("b", "GET /x")], &["b", "a"]);
    }

    #[test]
    fn path_without_wildcard_comes_before_the_same_path_with_remainder() {
        let set = set(vec![policy(vec![named("a", "GET /x/*"), named("b", "* /x")])]);
        assert_eq!(deciding(&set, "GET /x").as_deref(), Some("b"));
        assert_eq!(deciding(&set, "GET /x/y").as_deref(), Some("a"));
    }

    #[test]
    fn ids_decide_last_by_their_bytes() {
        check(
            vec![named("rule-2", "GET /x"), named("rule-10", "GET /x"), named("B", "GET /x")],
            &["B", "rule-10", "rule-2"],
        );
    }

    fn rules_in_two_orders() -> impl Strategy<Value = (Vec<WireRule>, Vec<WireRule>)> {
        let one = (pattern(), -1i32..2, prop::sample::select(vec!["GET", "*"]));
        prop::collection::vec(one, 0..12).prop_flat_map(|rules| {
            let numbered = rules.into_iter().enumerate().map(|(number, (pattern, priority, method))| {
                WireRule { priority, ..named(&format!("r{number}"), &format!("{method} {pattern}")) }
            });
            let rules: Vec<WireRule> = numbered.collect();
            (Just(rules.clone()), Just(rules).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn order_is_total_and_does_not_depend_on_the_file((rules, shuffled) in rules_in_two_orders()) {
            let (one, other) = (set(vec![policy(rules)]), set(vec![policy(shuffled)]));
            let (one, other) = (one.policies()[0].rules(), other.policies()[0].rules());
            let ids = |rules: &[Rule]| rules.iter().map(|rule| rule.id().to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(ids(one), ids(other));
            for pair in one.windows(2) {
                prop_assert_eq!(compare(&pair[0], &pair[1]), Ordering::Less);
                prop_assert_eq!(compare(&pair[1], &pair[0]), Ordering::Greater);
            }
        }
    }
}
