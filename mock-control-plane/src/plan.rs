//! What a tenant's plan allows.

use serde::{Deserialize, Serialize};

use crate::Problem;

/// A plan.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// 3 agents, 10 protected ports, 14 days of access log.
    Scale,
    /// Any number of agents and ports, 365 days of access log.
    #[default]
    Enterprise,
}

const DAY_S: u64 = 86_400;

// === impl Plan ===

impl Plan {
    /// Most agents at a time.
    pub(crate) fn agents_max(self) -> Option<usize> {
        match self {
            Plan::Scale => Some(3),
            Plan::Enterprise => None,
        }
    }

    /// Most ports that policies which are not disabled name.
    pub(crate) fn ports_max(self) -> Option<usize> {
        match self {
            Plan::Scale => Some(10),
            Plan::Enterprise => None,
        }
    }

    /// How long a record of the access log is kept, seconds.
    pub(crate) fn retention_s(self) -> u64 {
        match self {
            Plan::Scale => 14 * DAY_S,
            Plan::Enterprise => 365 * DAY_S,
        }
    }

    /// Refuses more than the plan allows. What was there before a change of plan stays.
    pub(crate) fn need_room(self, what: &str, count: usize, max: Option<usize>) -> Result<(), Problem> {
        match max {
            Some(max) if count > max => {
                Err(Problem::plan(format!("the plan allows {max} {what}; remove one, or change the plan")))
            }
            Some(_) | None => Ok(()),
        }
    }
}
