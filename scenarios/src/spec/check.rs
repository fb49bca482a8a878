//! What the types cannot say: references that lead somewhere, steps that can do something, policies that compile.

mod actions;

use std::path::Path;

use portcullis_wire::Policy;

use super::locate::{At, Located, place};
use super::policy_file::policy_problems;
use super::yaml::nearest;
use super::{Actor, AppKind, Expect, Request, Scenario, Step};
use crate::FileProblem;
use crate::engine::{EngineKind, reason_slugs};

use actions::Made;

/// All problems of a scenario.
pub(super) fn check(file: &Path, scenario: &Scenario, root: &Located) -> Vec<FileProblem> {
    let mut checker = Checker { file, scenario, root, made: Made::default(), problems: Vec::new() };
    checker.top();
    checker.policies();
    for (name, actor) in &scenario.actors {
        checker.actor(name, actor);
    }
    for (n, step) in scenario.steps.iter().enumerate() {
        checker.step(n, step);
    }
    checker.problems
}

struct Checker<'a> {
    file: &'a Path,
    scenario: &'a Scenario,
    root: &'a Located,
    made: Made,
    problems: Vec<FileProblem>,
}

// === impl Checker ===

impl Checker<'_> {
    fn refuse(&mut self, way: &[At<'_>], message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(FileProblem::new(self.file, place(self.root, way), message, remedy));
    }

    fn top(&mut self) {
        let Scenario { name, audiences, apps, policies, steps, tenant, .. } = self.scenario;
        for (key, text) in [("name", name), ("tenant", tenant)] {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if text.is_empty() || !text.bytes().all(fits) {
                let message = format!("`{text}` is not a name");
                self.refuse(&[At::Key(key)], message, "use letters, digits, `_` and `-`");
            }
        }
        if audiences.is_empty() {
            self.refuse(&[At::Key("audiences")], "no audience", "list at least one, or leave the field out");
        }
        if apps.is_empty() {
            self.refuse(
                &[At::Key("apps")],
                "no application",
                "list `rust`, `nginx` or both, or leave the field out",
            );
        }
        if policies.is_empty() {
            self.refuse(
                &[At::Key("policies")],
                "no policy",
                "a scenario without a policy shows nothing; add one",
            );
        }
        if steps.is_empty() {
            self.refuse(&[At::Key("steps")], "no step", "add a step with a `request`");
        }
    }

    fn policies(&mut self) {
        // Any port serves: the scenario's policies all cover the same one.
        let policies: Vec<Policy> = self.scenario.policies.iter().map(|p| p.to_wire(1)).collect();
        self.problems.extend(policy_problems(self.file, &policies, self.root, &[At::Key("policies")]));
    }

    fn actor(&mut self, name: &str, actor: &Actor) {
        let way = [At::Key("actors"), At::Key(name)];
        let Actor { claims, header, expires_in_s, defect, kid, literal } = actor;
        let minted = !claims.is_empty() || !header.is_empty() || expires_in_s.is_some();
        if literal.is_some() && (minted || defect.is_some() || kid.is_some()) {
            self.refuse(
                &way,
                format!("actor `{name}` has a `literal` token and minting fields"),
                "keep one of them",
            );
        }
        if literal.as_ref().is_some_and(|token| token.contains(['\r', '\n'])) {
            self.refuse(&way, "a literal token must be one line", "use a `raw` request for such bytes");
        }
    }

    fn step(&mut self, n: usize, step: &Step) {
        let way = [At::Key("steps"), At::Index(n)];
        let Step { name, engines, request, transparent, on_proxy, agent, repeat, expect, .. } = step;
        let deeds = Self::deeds(step);
        if deeds.len() != 1 {
            let message = match deeds.as_slice() {
                [] => format!("step `{name}` must do one thing"),
                several => format!("step `{name}` must do one thing, not {}", several.join(", ")),
            };
            self.refuse(
                &way,
                message,
                "give exactly one of `request`, `call`, `login` and so on: see schema.json",
            );
        }
        if *repeat == 0 {
            self.refuse(&[way[0], way[1], At::Key("repeat")], "a step cannot run 0 times", "write 1 or more");
        }
        if engines.as_ref().is_some_and(Vec::is_empty) {
            self.refuse(
                &[way[0], way[1], At::Key("engines")],
                "no engine would run this step",
                "leave it out",
            );
        }
        if agent.is_some() && engines.as_deref() != Some(&[EngineKind::Kernel]) {
            let remedy = "add `engines: [kernel]`: no other engine goes on without its process";
            self.refuse(&way, format!("step `{name}` needs the kernel engine"), remedy);
        }
        let with_proxy = engines.as_ref().is_none_or(|engines| engines.contains(&EngineKind::Proxy));
        match (transparent.is_some() && with_proxy, on_proxy) {
            (true, None) => {
                let message = format!("step `{name}` compares bytes, which a proxy changes");
                let remedy =
                    "say what the proxy is held to: `on_proxy: meaning`, or leave it out of `engines:`";
                self.refuse(&way, message, remedy);
            }
            (false, Some(_)) => self.refuse(
                &[way[0], way[1], At::Key("on_proxy")],
                "this step does not compare anything on the proxy engine",
                "it is for `transparent` steps that run there; leave it out",
            ),
            (true, Some(_)) | (false, None) => {}
        }
        if let Some(request) = request {
            self.request(&[way[0], way[1], At::Key("request")], request);
        }
        if let Some(requests) = transparent {
            if requests.is_empty() {
                self.refuse(&[way[0], way[1], At::Key("transparent")], "nothing to compare", "list requests");
            }
            for (i, request) in requests.iter().enumerate() {
                self.request(&[way[0], way[1], At::Key("transparent"), At::Index(i)], request);
            }
        }
        self.actions(&way, step);
        self.expect(&way, step, expect);
    }

    fn request(&mut self, way: &[At<'_>], request: &Request) {
        let Request { method, path, host, actor, headers, body, raw, segment_bytes } = request;
        if *segment_bytes == Some(0) {
            let at = [way, &[At::Key("segment_bytes")]].concat();
            self.refuse(&at, "a piece cannot be empty", "write 1 or more, or leave it out");
        }
        let known = self.actor_names();
        if let Some(actor) = actor
            && !known.contains(actor)
        {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let remedy = match nearest(actor, &known) {
                Some(name) => format!("did you mean `{name}`? Actors of this file: {}", known.join(", ")),
                None => format!("define it under `actors:`; known: {}", known.join(", ")),
            };
            self.refuse(&[way, &[At::Key("as")]].concat(), format!("no actor `{actor}`"), remedy);
        }
        if let Some(raw) = raw {
            self.tokens_in(way, raw);
            if actor.is_some() || body.is_some() || !headers.is_empty() {
                self.refuse(way, "`raw` is the whole request", "remove the other members, or `raw`");
            }
            return;
        }
        let lines = [("method", method), ("path", path), ("host", host)];
        for (key, text) in lines {
            if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
                let message = format!("`{key}` is empty or has a space or control character");
                self.refuse(&[way, &[At::Key(key)]].concat(), message, "use `raw` to send such a request");
            }
        }
        for (name, value) in headers {
            if name.is_empty()
                || format!("{name}{value}").contains(['\r', '\n', '\0'])
                || name.contains([':', ' '])
            {
                let message = format!("header `{name}` cannot be sent as one line");
                self.refuse(
                    &[way, &[At::Key("headers")]].concat(),
                    message,
                    "use `raw` to send such a request",
                );
            }
        }
    }

    /// Those of the file and those that logged in.
    fn actor_names(&self) -> Vec<String> {
        self.scenario.actors.keys().chain(&self.made.actors).cloned().collect()
    }

    /// `{{name}}` in a raw text stands for the actor's token.
    fn tokens_in(&mut self, way: &[At<'_>], raw: &str) {
        for part in raw.split("{{").skip(1) {
            let name = part.split("}}").next().unwrap_or_default();
            let known = self.actor_names();
            if part.contains("}}") && !known.iter().any(|known| known == name) {
                let remedy =
                    format!("`{{{{name}}}}` stands for an actor's token; actors: {}", known.join(", "));
                self.refuse(&[way, &[At::Key("raw")]].concat(), format!("no actor `{name}`"), remedy);
            }
        }
    }

    fn expect(&mut self, way: &[At<'_>], step: &Step, expect: &Expect) {
        let Expect {
            status,
            statuses,
            closed,
            headers,
            body_contains,
            json,
            app_requests,
            app_bytes,
            app_saw,
            app_never_saw,
            log,
        } = expect;
        let way = [way, &[At::Key("expect")]].concat();
        if [*status].iter().flatten().chain(statuses.iter().flatten()).any(|s| !(100..600).contains(s)) {
            self.refuse(&[&way[..], &[At::Key("status")]].concat(), "not an HTTP status", "write 100 to 599");
        }
        if statuses.is_some() && (status.is_some() || step.request.as_ref().is_none_or(|r| r.raw.is_none())) {
            let at = [&way[..], &[At::Key("statuses")]].concat();
            self.refuse(
                &at,
                "`statuses` is for the several responses to one `raw` text",
                "write `status` instead",
            );
        }
        let nothing = status.is_none() && statuses.is_none() && closed.is_none() && headers.is_empty();
        let nothing = nothing && body_contains.is_none() && app_requests.is_none() && app_bytes.is_none();
        let sees = !app_saw.is_empty() || !app_never_saw.is_empty();
        let nothing = nothing && log.is_empty() && !sees;
        if sees && self.scenario.apps.as_slice() != [AppKind::Rust] {
            let at = At::Key(if app_saw.is_empty() { "app_never_saw" } else { "app_saw" });
            let message = "only our own server tells what it read";
            self.refuse(&[&way[..], &[at]].concat(), message, "leave `apps:` out, or write `apps: [rust]`");
        }
        for (key, texts) in [("app_saw", app_saw), ("app_never_saw", app_never_saw)] {
            if texts.iter().any(String::is_empty) {
                let at = [&way[..], &[At::Key(key)]].concat();
                self.refuse(&at, "an empty text stands everywhere", "write the text to look for");
            }
        }
        if step.request.is_some() && nothing {
            let message = format!("step `{}` expects nothing, so it cannot fail", step.name);
            self.refuse(&way[..2], message, "add `expect:` with a status, an app count or log records");
        }
        let asks = step.call.is_some() || step.login.is_some() || step.step_up.is_some();
        if !json.is_empty() && !asks {
            let at = [&way[..], &[At::Key("json")]].concat();
            self.refuse(&at, "`json` is about an answer of the control plane", "use it with a `call`");
        }
        let of_requests = statuses.is_some() || closed.is_some() || !headers.is_empty();
        let of_requests = of_requests || app_requests.is_some() || app_bytes.is_some() || !log.is_empty();
        let sends = step.request.is_some() || step.transparent.is_some() || step.arrived.is_some();
        if (!sends && of_requests) || (!sends && !asks && !nothing) {
            self.refuse(&way, "this step sends no request", "put the expectations on a step with requests");
        }
        let rules: Vec<String> = self.scenario.policies.iter().flat_map(|p| p.rule_ids()).collect();
        for (i, record) in log.iter().enumerate() {
            let at = [&way[..], &[At::Key("log"), At::Index(i)]].concat();
            if let Some(reason) = &record.reason {
                self.known(&[&at[..], &[At::Key("reason")]].concat(), "reason", reason, &reason_slugs());
            }
            if let Some(rule) = &record.rule {
                let known: Vec<&str> = rules.iter().map(String::as_str).collect();
                self.known(&[&at[..], &[At::Key("rule")]].concat(), "rule", rule, &known);
            }
            if let Some(policy) = &record.policy {
                let known: Vec<&str> = self.scenario.policies.iter().map(|p| p.name.as_str()).collect();
                self.known(&[&at[..], &[At::Key("policy")]].concat(), "policy", policy, &known);
            }
        }
    }

    fn known(&mut self, way: &[At<'_>], what: &str, name: &str, known: &[&str]) {
        if known.contains(&name) {
            return;
        }
        let remedy = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        self.refuse(way, format!("no {what} `{name}`"), remedy);
    }
}
