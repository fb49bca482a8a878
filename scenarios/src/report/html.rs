//! One page with everything in it: no scripts, no fonts, no requests to anywhere.
//!
//! **Invariant:** every text that is not ours goes through [`escape`]: paths, claims and responses come from whoever
//! sent the request.

use portcullis_wire::{AccessLog, Verdict};

use super::{Machine, Outcome, Report, Sample, ScenarioResult, StepResult, Summary};

pub(super) fn render(report: &Report) -> String {
    let Report { version, started_at, duration_ms, machine, engines, scenarios, summary, schema: _ } = report;
    let Machine { kernel, arch, cpus } = machine;
    let notes: String = engines
        .iter()
        .filter(|engine| !engine.ready)
        .map(|engine| {
            let reason = engine.reason.as_deref().unwrap_or_default();
            format!("<p class=\"note\"><b>{} engine not run:</b> {}</p>\n", engine.engine, escape(reason))
        })
        .collect();
    let scenarios: String = scenarios.iter().map(scenario).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Portcullis: {headline}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n\
         <h1>Portcullis scenarios <small>{version}</small></h1>\n\
         <p class=\"machine\">{started_at} · {took} · Linux {kernel} · {arch} · {cpus} processors</p>\n\
         {tiles}{notes}{scenarios}\
         <footer>The same run as data: report.json, junit.xml</footer>\n</main>\n</body>\n</html>\n",
        headline = headline(summary),
        style = include_str!("style.css"),
        version = escape(version),
        started_at = escape(started_at),
        took = seconds(*duration_ms),
        kernel = escape(kernel),
        arch = escape(arch),
        tiles = tiles(summary),
    )
}

fn headline(summary: &Summary) -> String {
    let Summary { passed, failed, not_run, requests: _ } = summary;
    format!("{passed} passed, {failed} failed, {not_run} not run")
}

fn tiles(summary: &Summary) -> String {
    let Summary { passed, failed, not_run, requests } = *summary;
    let tile = |class: &str, number: String, what: &str| {
        format!("<div class=\"tile {class}\"><b>{number}</b><span>{what}</span></div>\n")
    };
    format!(
        "<div class=\"tiles\">\n{}{}{}{}</div>\n",
        tile("good", passed.to_string(), "passed"),
        tile(if failed > 0 { "bad" } else { "" }, failed.to_string(), "failed"),
        tile(if not_run > 0 { "wait" } else { "" }, not_run.to_string(), "not run"),
        tile("", requests.to_string(), "requests sent"),
    )
}

fn scenario(scenario: &ScenarioResult) -> String {
    let ScenarioResult {
        name,
        engine,
        outcome,
        reason,
        duration_ms,
        description,
        file,
        steps,
        engine_output,
    } = scenario;
    let open = if *outcome == Outcome::Failed { " open" } else { "" };
    let reason = reason.as_ref().map(|r| format!("<ul class=\"reasons\"><li>{}</li></ul>", escape(r)));
    let output =
        if engine_output.is_empty() { String::new() } else { figure("Engine", &engine_output.join("\n")) };
    format!(
        "<details class=\"scenario\"{open}>\n<summary>{badge}<span class=\"grow\">{name} \
         <span class=\"soft\">{engine}</span></span><span class=\"soft\">{count} steps · {took}</span></summary>\n\
         <div class=\"body\"><p>{description}</p><p class=\"soft\">{file}</p>{reason}{output}</div>\n\
         <div class=\"steps\">\n{steps}</div>\n</details>\n",
        badge = badge(*outcome),
        name = escape(name),
        count = steps.len(),
        took = seconds(*duration_ms),
        description = escape(description),
        file = escape(&file.display().to_string()),
        reason = reason.unwrap_or_default(),
        steps = steps.iter().map(step).collect::<String>(),
    )
}

fn step(step: &StepResult) -> String {
    let StepResult {
        name,
        app,
        outcome,
        reasons,
        duration_ms,
        action,
        notes,
        requests,
        statuses,
        app_requests,
        app_bytes,
        sample,
        records_total,
        records,
    } = step;
    let open = if *outcome == Outcome::Failed { " open" } else { "" };
    let mut facts = vec![escape(action)];
    facts.extend(notes.iter().map(|note| format!("<b>{}</b>", escape(note))));
    if *requests > 0 {
        let statuses = statuses.iter().map(|(status, n)| match status {
            0 => format!("{n} × no response"),
            status => format!("{n} × {status}"),
        });
        facts.push(statuses.collect::<Vec<_>>().join(", "));
        facts.push(format!("application: {app_requests} requests, {app_bytes} bytes"));
    }
    let reasons: String = reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let reasons =
        if reasons.is_empty() { String::new() } else { format!("<ul class=\"reasons\">{reasons}</ul>") };
    let sample = sample.as_ref().map(|Sample { request, response }| {
        let (request, response) = (figure("First request", request), figure("Response", response));
        format!("<div class=\"pair\">{request}{response}</div>")
    });
    format!(
        "<details{open}>\n<summary>{badge}<span class=\"grow\">{name} <span class=\"soft\">{app}</span></span>\
         <span class=\"soft\">{took}</span></summary>\n<div class=\"body\"><p>{facts}</p>{reasons}{sample}{log}</div>\n\
         </details>\n",
        badge = badge(*outcome),
        name = escape(name),
        app = escape(app),
        took = seconds(*duration_ms),
        facts = facts.join(" · "),
        sample = sample.unwrap_or_default(),
        log = log(records, *records_total),
    )
}

fn log(records: &[AccessLog], total: u64) -> String {
    if records.is_empty() {
        return String::new();
    }
    let rows: String = records.iter().map(record).collect();
    let shown = if total > records.len() as u64 {
        format!("Access log, first {} of {total}", records.len())
    } else {
        "Access log".to_owned()
    };
    format!(
        "<figure><figcaption>{shown}</figcaption><div class=\"scroll\"><table>\n<tr><th>Decision</th><th>Reason</th>\
         <th>Request</th><th>Policy / rule</th><th>Subject</th><th>Key</th><th>Time</th></tr>\n{rows}</table></div></figure>"
    )
}

fn record(record: &AccessLog) -> String {
    let decision = match record.decision {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::WouldDeny => "would_deny",
    };
    let text = |value: &Option<String>| escape(value.as_deref().unwrap_or("–"));
    format!(
        "<tr><td class=\"{decision}\">{decision}</td><td title=\"{why}\">{reason}</td><td>{method} {path}</td>\
         <td>{policy} / {rule}</td><td>{user}</td><td>{kid}</td><td>{latency:.1} µs</td></tr>\n",
        why = escape(&record.decision_reason),
        reason = escape(&record.reason),
        method = escape(&record.method),
        path = escape(&record.path),
        policy = text(&record.policy_id),
        rule = text(&record.rule_id),
        user = text(&record.user_id),
        kid = text(&record.kid),
        latency = record.latency_us,
    )
}

fn figure(title: &str, text: &str) -> String {
    format!("<figure><figcaption>{title}</figcaption><pre>{}</pre></figure>", escape(text))
}

fn badge(outcome: Outcome) -> String {
    format!("<span class=\"badge {}\">{outcome}</span>", outcome.name())
}

fn seconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10) }
}

/// Text for element content and double-quoted attributes. Control characters are shown, not sent.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if c < ' ' => out.extend(char::from_u32(0x2400 + c as u32)),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
