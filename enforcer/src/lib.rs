//! The agent: compiles policies, loads the programs, answers denials, reports decisions
