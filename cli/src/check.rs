//! `portcullis check`: policies and scenarios, looked at without running anything.

use std::path::PathBuf;

use portcullis_scenarios::FileProblem;
use portcullis_scenarios::spec::{Kind, Lint, lint};
use serde::Serialize;

use crate::Exit;
use crate::output::{self, Format};

/// Lint policy and scenario files, with line, column and remedy
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis check policy.yaml scenarios/*.yaml
  portcullis check --deny-warnings policy.yaml
  portcullis check --schema >scenarios/schema.json

Exit status: 0 the files can be used, 1 warnings with --deny-warnings, 2 a file cannot be used.")]
pub struct Args {
    /// Files to look at
    #[arg(required_unless_present = "schema", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Warnings make the exit status 1
    #[arg(long)]
    deny_warnings: bool,
    /// Print the JSON Schema of scenario files, for editors, and nothing else
    #[arg(long, exclusive = true)]
    schema: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// One line of the result.
#[derive(Serialize)]
struct Row {
    severity: &'static str,
    file: String,
    line: u64,
    column: u64,
    message: String,
    remedy: String,
}

pub fn check(args: Args) -> Exit {
    let Args { files, deny_warnings, schema, format } = args;
    if schema {
        output::print(&portcullis_scenarios::spec::json_schema())?;
        return Ok(0);
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut good = String::new();
    for file in &files {
        match lint(file) {
            Ok(Lint { kind, warnings, notes }) => {
                rows.extend(warnings.iter().map(|problem| Row::new("warning", problem)));
                rows.extend(notes.iter().map(|problem| Row::new("note", problem)));
                let what = match kind {
                    Kind::Scenario => "scenario",
                    Kind::Policies => "policies",
                };
                good.push_str(&format!("{}: {what}, {} warnings\n", file.display(), warnings.len()));
            }
            Err(problems) => rows.extend(problems.iter().map(|problem| Row::new("error", problem))),
        }
    }
    match format {
        Format::Json => output::print_json(&rows)?,
        Format::Table => {
            rows.iter().for_each(|row| eprintln!("{}", row.text()));
            output::print(&good)?;
        }
    }
    let has = |severity: &str| rows.iter().any(|row| row.severity == severity);
    Ok(match (has("error"), deny_warnings && has("warning")) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    })
}

// === impl Row ===

impl Row {
    fn new(severity: &'static str, problem: &FileProblem) -> Row {
        let FileProblem { file, line, column, message, remedy } = problem.clone();
        Row { severity, file: file.display().to_string(), line, column, message, remedy }
    }

    fn text(&self) -> String {
        let Row { severity, file, line, column, message, remedy } = self;
        let place = (*line, *column);
        format!("{severity}: {}", FileProblem::new(file.as_ref(), place, message.as_str(), remedy.as_str()))
    }
}
