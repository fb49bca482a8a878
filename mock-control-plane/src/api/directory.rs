//! `/api/v1`: the directory. Which tenant it is follows from the credentials, and so does what is seen of it.

pub(super) mod groups;
pub(super) mod orgs;
pub(super) mod roles;
pub(super) mod users;

use serde::Deserialize;

use crate::Problem;
use crate::directory::{Directory, Refusal, Scope};

/// Which page of a listing.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Only of this organisation.
    #[serde(default)]
    org_id: Option<String>,
    /// At most so many.
    #[serde(default)]
    limit: Option<usize>,
    /// The `cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// One page of a listing.
struct Rows<T> {
    rows: Vec<T>,
    total: usize,
    cursor: Option<String>,
}

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1_000;

// === impl Page ===

impl Page {
    /// The organisation that is asked for exists, as far as the scope sees.
    fn need_org(&self, directory: &Directory, scope: &Scope) -> Result<(), Refusal> {
        match &self.org_id {
            Some(id) => directory.org(scope, id).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether something of that organisation is wanted.
    fn wants(&self, org: Option<&str>) -> bool {
        self.org_id.is_none() || self.org_id.as_deref() == org
    }

    /// One page of `rows`, which come by ascending identifier.
    fn of<'a, T: 'a, A>(
        &self,
        rows: impl Iterator<Item = &'a T>,
        id: impl Fn(&T) -> &str,
        show: impl Fn(&T) -> A,
    ) -> Result<Rows<A>, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(Problem::unreadable(format!("query: `limit` must be 1 to {LIMIT_MAX}")));
        }
        let rows: Vec<&T> = rows.collect();
        let from = self.cursor.as_deref().unwrap_or_default();
        let mut rest = rows.iter().filter(|row| id(row) > from);
        let page: Vec<&&T> = rest.by_ref().take(limit).collect();
        let cursor = rest.next().and(page.last()).map(|row| id(row).to_owned());
        let shown = page.into_iter().map(|row| show(row)).collect();
        Ok(Rows { rows: shown, total: rows.len(), cursor })
    }
}
