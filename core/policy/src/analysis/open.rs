//! Requests that pass beside a rule that protects: other methods of its paths, and other spellings of those paths.

use portcullis_wire::{Action, Auth, Method, Reason};

use super::{FindingKind, Report};
use crate::glob::{Glob, Part, Segment};
use crate::policy::{Policy, Rule};

/// What passes beside a rule that protects something.
pub(super) fn beside(number: usize, rule: &Rule, report: &mut Report<'_>) {
    if let Some((method, path)) = protected_request(number, rule, report.policy) {
        methods(rule, &path, report);
        spelling(rule, method, &path, report);
    }
}

/// Methods that no rule is about, and that the default action lets through.
fn methods(rule: &Rule, path: &str, report: &mut Report<'_>) {
    if report.policy.default_action() == Action::Deny {
        return;
    }
    let open: Vec<&str> = Method::ALL
        .into_iter()
        .filter(|method| anonymous(report.policy, *method, path) == Some(Reason::DefaultAllow))
        .map(|method| if method == Method::Other { "any other method" } else { method.name() })
        .collect();
    if open.is_empty() {
        return;
    }
    let message = format!(
        "it asks for a token for {} {path}, but other methods pass without one ({}): no rule is about them, and \
         `default_action` is allow",
        rule.wire().method,
        open.join(", "),
    );
    let remedy = "write method `*`, or a rule for each other method";
    report.add(Some(rule), "method", FindingKind::OpenMethods, message, remedy);
}

/// The path with a slash more or less at its end, for which many applications serve the same resource. There is no
/// other spelling to think of: paths are matched in canonical form.
fn spelling(rule: &Rule, method: Method, path: &str, report: &mut Report<'_>) {
    let other = match path.strip_suffix('/') {
        Some("") => return,
        Some(without) => without.to_owned(),
        None => format!("{path}/"),
    };
    if anonymous(report.policy, method, &other).is_none() {
        return;
    }
    let message = format!(
        "it asks for a token for {method} {path}, but {method} {other} passes without one, and many applications \
         take one for the other"
    );
    let remedy = "add a rule for the other spelling, end the pattern with `/*`, or deny by default";
    report.add(Some(rule), "path_pattern", FindingKind::OpenSpelling, message, remedy);
}

/// A request about which this rule decides and asks for a token.
fn protected_request(number: usize, rule: &Rule, policy: &Policy) -> Option<(Method, String)> {
    if rule.auth() != Auth::Required {
        return None;
    }
    let path = example(rule.glob());
    let named =
        Method::ALL.into_iter().filter(|method| *method != Method::Other && rule.covers_method(*method));
    let mut decided =
        named.filter(|method| policy.index.first(policy.rules(), *method, &path) == Some(number));
    decided.next().map(|method| (method, path))
}

/// Why the policy lets a request without a token through; `None` when it does not.
fn anonymous(policy: &Policy, method: Method, path: &str) -> Option<Reason> {
    match policy.index.first(policy.rules(), method, path).map(|rule| policy.rules()[rule].auth()) {
        Some(Auth::None) => Some(Reason::Public),
        Some(Auth::Optional) => Some(Reason::OptionalAnonymous),
        Some(Auth::Required) => None,
        None => match policy.default_action() {
            Action::Allow => Some(Reason::DefaultAllow),
            Action::Deny => None,
        },
    }
}

/// A short path that the glob matches.
pub(super) fn example(glob: &Glob) -> String {
    let mut path = String::new();
    for segment in glob.segments() {
        match segment {
            Segment::Literal(text) => path.extend(["/", text]),
            Segment::One => path += "/x",
            Segment::Partial(parts) => {
                path += "/";
                path.extend(parts.iter().map(|part| match part {
                    Part::Text(text) => text.as_str(),
                    Part::Star => "x",
                }));
            }
            Segment::Deep => {}
        }
    }
    if path.is_empty() { "/".to_owned() } else { path }
}
