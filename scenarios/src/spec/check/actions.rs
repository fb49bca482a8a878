//! Steps that act on the control plane: names must lead to something that a step before made.

use super::super::locate::At;
use super::super::{Call, Login, Step, Until};
use super::Checker;

/// What the steps so far have made.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Names of the steps.
    steps: Vec<String>,
    /// Actors that logged in; those of the file are not among them.
    pub actors: Vec<String>,
    /// Actors with an authenticator app.
    apps: Vec<String>,
    /// Saved values.
    values: Vec<String>,
    /// Traffic that goes on.
    traffic: Vec<String>,
}

// === impl Checker ===

impl Checker<'_> {
    /// The things that this step does; there should be one.
    pub(super) fn deeds(step: &Step) -> Vec<&'static str> {
        let deeds = [
            ("request", step.request.is_some()),
            ("set_mode", step.set_mode.is_some()),
            ("transparent", step.transparent.is_some()),
            ("agent", step.agent.is_some()),
            ("call", step.call.is_some()),
            ("login", step.login.is_some()),
            ("enrol_mfa", step.enrol_mfa.is_some()),
            ("step_up", step.step_up.is_some()),
            ("clock", step.clock.is_some()),
            ("plane", step.plane.is_some()),
            ("start_traffic", step.start_traffic.is_some()),
            ("stop_traffic", step.stop_traffic.is_some()),
            ("arrived", step.arrived.is_some()),
        ];
        deeds.into_iter().filter(|(_, done)| *done).map(|(name, _)| name).collect()
    }

    pub(super) fn actions(&mut self, way: &[At<'_>], step: &Step) {
        if let Some(call) = &step.call {
            self.call(&[way, &[At::Key("call")]].concat(), call);
        }
        if let Some(login) = &step.login {
            self.login(&[way, &[At::Key("login")]].concat(), login);
        }
        if let Some(actor) = &step.enrol_mfa {
            self.logged_in(&[way, &[At::Key("enrol_mfa")]].concat(), actor);
            self.made.apps.push(actor.clone());
        }
        if let Some(actor) = &step.step_up {
            let way = [way, &[At::Key("step_up")]].concat();
            self.logged_in(&way, actor);
            self.has_app(&way, actor);
        } else if step.wrong_code {
            let at = [way, &[At::Key("wrong_code")]].concat();
            self.refuse(&at, "`wrong_code` is for `step_up`", "leave it out");
        }
        if step.clock.is_some_and(|clock| clock.advance_s == 0) {
            let at = [way, &[At::Key("clock"), At::Key("advance_s")]].concat();
            self.refuse(&at, "the clock would stand still", "write 1 or more");
        }
        self.traffic(way, step);
        if let Some(arrived) = &step.arrived {
            let steps: Vec<String> = self.made.steps.clone();
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let at = [way, &[At::Key("arrived"), At::Key("since")]].concat();
            self.known(&at, "step before this one", &arrived.since, &steps);
            if step.expect.log.iter().any(|entry| entry.count.is_none()) || step.expect.log.is_empty() {
                let remedy = "add `expect: { log: [...] }`, each entry with a `count`";
                self.refuse(way, "the step does not say how many records arrive", remedy);
            }
        }
        self.modifiers(way, step);
        if self.made.steps.contains(&step.name)
            && self
                .scenario
                .steps
                .iter()
                .any(|other| other.arrived.as_ref().is_some_and(|a| a.since == step.name))
        {
            let message = format!("there are two steps `{}`, and `arrived` counts since one", step.name);
            self.refuse(&[way, &[At::Key("name")]].concat(), message, "name them differently");
        }
        self.made.steps.push(step.name.clone());
    }

    fn call(&mut self, way: &[At<'_>], call: &Call) {
        let Call { method, path, body, bearer, save, show, settle: _ } = call;
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
            let at = [way, &[At::Key("method")]].concat();
            self.refuse(&at, format!("`{method}` is not a method"), "write it in upper case, like `POST`");
        }
        if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            let at = [way, &[At::Key("path")]].concat();
            self.refuse(&at, format!("`{path}` is not a path"), "begin with `/`, encode spaces as `%20`");
        }
        self.filled(&[way, &[At::Key("path")]].concat(), path);
        if let Some(bearer) = bearer {
            self.filled(&[way, &[At::Key("bearer")]].concat(), bearer);
        }
        if let Some(body) = body {
            self.filled(&[way, &[At::Key("body")]].concat(), &body.to_string());
        }
        for (key, names) in [("save", save), ("show", show)] {
            for (name, pointer) in names {
                if !pointer.is_empty() && !pointer.starts_with('/') {
                    let at = [way, &[At::Key(key), At::Key(name)]].concat();
                    let message = format!("`{pointer}` is not a JSON Pointer");
                    self.refuse(&at, message, format!("write `/{pointer}`"));
                }
            }
        }
        self.made.values.extend(save.keys().cloned());
    }

    fn login(&mut self, way: &[At<'_>], login: &Login) {
        let Login { actor, email, password, code } = login;
        self.filled(&[way, &[At::Key("email")]].concat(), email);
        self.filled(&[way, &[At::Key("password")]].concat(), password);
        if self.scenario.actors.contains_key(actor) {
            let remedy = "name another actor, or take it out of `actors`";
            self.refuse(&[way, &[At::Key("as")]].concat(), format!("`{actor}` has a minted token"), remedy);
        }
        if *code {
            self.has_app(&[way, &[At::Key("as")]].concat(), actor);
        }
        self.made.actors.push(actor.clone());
    }

    fn traffic(&mut self, way: &[At<'_>], step: &Step) {
        if let Some(traffic) = &step.start_traffic {
            let way = [way, &[At::Key("start_traffic")]].concat();
            self.request(&[&way[..], &[At::Key("request")]].concat(), &traffic.request);
            if traffic.remint_every == Some(0) {
                let at = [&way[..], &[At::Key("remint_every")]].concat();
                self.refuse(&at, "0 requests never pass", "write 1 or more, or leave it out");
            }
            let minted = traffic.request.actor.as_ref().is_some_and(|a| self.scenario.actors.contains_key(a));
            if traffic.remint_every.is_some() && !minted {
                let at = [&way[..], &[At::Key("remint_every")]].concat();
                self.refuse(&at, "only tokens of `actors` are minted", "name one of them in `request.as`");
            }
            if self.made.traffic.contains(&traffic.name) {
                let at = [&way[..], &[At::Key("name")]].concat();
                self.refuse(
                    &at,
                    format!("traffic `{}` goes on already", traffic.name),
                    "choose another name",
                );
            }
            self.made.traffic.push(traffic.name.clone());
        }
        if let Some(stop) = &step.stop_traffic {
            let names = self.made.traffic.clone();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let at = [way, &[At::Key("stop_traffic"), At::Key("name")]].concat();
            self.known(&at, "traffic that goes on", &stop.name, &names);
            self.made.traffic.retain(|name| *name != stop.name);
        }
    }

    fn modifiers(&mut self, way: &[At<'_>], step: &Step) {
        if step.on.is_some() && step.request.is_none() {
            self.refuse(&[way, &[At::Key("on")]].concat(), "`on` is for a `request`", "leave it out");
        }
        let Some(Until { before, within_ms: _ }) = step.until else { return };
        let at = [way, &[At::Key("until")]].concat();
        let expect = &step.expect;
        if step.request.is_none() || step.repeat != 1 {
            self.refuse(&at, "`until` repeats one `request`", "give a `request`, and leave `repeat` out");
        }
        if expect.status.is_none_or(|status| status == before) {
            let remedy = "add `expect: { status: … }` with a status that differs from `before`";
            self.refuse(&at, "the step does not say what it waits for", remedy);
        }
        if expect.app_requests.is_some() || expect.app_bytes.is_some() || !expect.log.is_empty() {
            let remedy = "expect status, headers and body_contains; they are about the last response";
            self.refuse(&at, "how many requests `until` takes is not known", remedy);
        }
    }

    fn logged_in(&mut self, way: &[At<'_>], actor: &str) {
        if !self.made.actors.iter().any(|known| known == actor) {
            let remedy = format!("put `login: {{ as: {actor}, … }}` in a step before");
            self.refuse(way, format!("`{actor}` is not logged in here"), remedy);
        }
    }

    fn has_app(&mut self, way: &[At<'_>], actor: &str) {
        if !self.made.apps.iter().any(|known| known == actor) {
            let remedy = format!("put `enrol_mfa: {actor}` in a step before");
            self.refuse(way, format!("`{actor}` has no authenticator app here"), remedy);
        }
    }

    /// `{{name}}` in a text of a call.
    fn filled(&mut self, way: &[At<'_>], text: &str) {
        for part in text.split("{{").skip(1) {
            let Some((name, _)) = part.split_once("}}") else { continue };
            let made = self.made.values.iter().chain(&self.made.actors);
            let known: Vec<String> =
                made.chain(self.scenario.actors.keys()).cloned().chain(["tenant".to_owned()]).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            self.known(way, "saved value or actor", name, &known);
        }
    }
}
