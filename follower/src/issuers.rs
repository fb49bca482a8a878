//! Issuers that this host trusts by its own settings, with keys from the issuers' own URLs.
//!
//! Keys are fetched at the start, then every few minutes, and when a token comes with a kid that nobody knows. Such
//! tokens can be made by anybody, so what they cause is bounded: one fetch in [`UNKNOWN_KID_EVERY`], however many come.
//!
//! Keys are kept on disk too: an agent that starts while an issuer cannot be reached uses those that were fetched last.
//!
//! **Invariant:** a fetch that fails leaves the keys of before, until they are too old; a restart makes none younger.

use std::time::{Duration, Instant};

use portcullis_wire::{Issuer, JwkSet};
use serde::Deserialize;

use crate::PlaneError;
use crate::bundle::read_keys;
use crate::kept_keys::KeptRow;
use crate::plane::Plane;

/// An issuer of this host's own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Exact value of `iss`.
    pub issuer: String,
    /// Accepted audiences.
    pub audiences: Vec<String>,
    /// Clock leeway, seconds.
    #[serde(default)]
    pub leeway_s: u32,
    /// Where its keys are; absent: its OpenID Provider's metadata says so (OpenID Connect Discovery 1.0 section 4).
    #[serde(default)]
    pub jwks_uri: Option<String>,
}

/// Those issuers.
#[derive(Debug)]
pub(crate) struct Issuers {
    rows: Vec<Row>,
    every: Duration,
}

#[derive(Debug)]
struct Row {
    config: IssuerConfig,
    jwks_uri: Option<String>,
    keys: JwkSet,
    problems: Vec<String>,
    error: Option<String>,
    /// When the keys were fetched, Unix seconds.
    fetched_s: Option<u64>,
    /// And where.
    fetched_from: String,
    tried: Option<Instant>,
}

/// A question for keys.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    at: usize,
    issuer: String,
    uri: Option<String>,
}

/// Its answer.
#[derive(Debug)]
pub(crate) struct Keys {
    uri: String,
    set: JwkSet,
    problems: Vec<String>,
}

/// What an answer did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Keys are other ones now.
    pub changed: bool,
    /// They are young again.
    pub fetched: bool,
}

/// Least time between two fetches because of unknown kids.
pub(crate) const UNKNOWN_KID_EVERY: Duration = Duration::from_secs(5);
const WHAT: &str = "reading an issuer's keys";

// === impl Issuers ===

impl Issuers {
    /// Keys are fetched anew this often. `now_s`: no kept key is younger.
    pub(crate) fn new(
        configs: Vec<IssuerConfig>,
        every: Duration,
        kept: Vec<KeptRow>,
        now_s: u64,
    ) -> Issuers {
        let row = |config: IssuerConfig| Row {
            jwks_uri: config.jwks_uri.clone(),
            config,
            keys: JwkSet::default(),
            problems: Vec::new(),
            error: None,
            fetched_s: None,
            fetched_from: String::new(),
            tried: None,
        };
        let mut rows: Vec<Row> = configs.into_iter().map(row).collect();
        for one in kept {
            // Whom to trust is said by the settings; the file only has their keys.
            if let Some(row) = rows.iter_mut().find(|row| row.is_of(&one)) {
                row.use_kept(one, now_s);
            }
        }
        Issuers { rows, every }
    }

    /// Whether there are keys of everybody.
    pub(crate) fn have_keys(&self) -> bool {
        self.rows.iter().all(|row| row.fetched_s.is_some())
    }

    /// Questions for keys that are due. They are asked without holding this, because answers may take long.
    pub(crate) fn due(&mut self, unknown_kid: bool) -> Vec<Question> {
        let least = if unknown_kid { UNKNOWN_KID_EVERY.min(self.every) } else { self.every };
        let mut questions = Vec::new();
        for (at, row) in self.rows.iter_mut().enumerate() {
            if row.tried.is_none_or(|at| at.elapsed() >= least) {
                row.tried = Some(Instant::now());
                let (issuer, uri) = (row.config.issuer.clone(), row.jwks_uri.clone());
                questions.push(Question { at, issuer, uri });
            }
        }
        questions
    }

    /// Takes the answer to a question.
    pub(crate) fn took(&mut self, question: &Question, answer: Result<Keys, PlaneError>, now_s: u64) -> Took {
        let row = self.rows.get_mut(question.at);
        row.map_or(Took { changed: false, fetched: false }, |row| row.took(answer, now_s))
    }

    /// Everybody's keys, for the disk.
    pub(crate) fn to_keep(&self) -> Vec<KeptRow> {
        self.rows.iter().filter_map(Row::to_keep).collect()
    }

    /// The issuers as a bundle holds them. Keys of before `oldest_s` are left out.
    pub(crate) fn wire(&self, oldest_s: u64) -> Vec<Issuer> {
        let issuer = |row: &Row| {
            let IssuerConfig { issuer, audiences, leeway_s, jwks_uri: _ } = row.config.clone();
            let jwks = if row.is_young(oldest_s) { row.keys.clone() } else { JwkSet::default() };
            Issuer { issuer, audiences, leeway_s, jwks }
        };
        self.rows.iter().map(issuer).collect()
    }

    /// Whether keys are in use that `wire` would now leave out, or the other way round, is told by this list: the
    /// issuers whose keys are too old.
    pub(crate) fn too_old(&self, oldest_s: u64) -> Vec<String> {
        let old = self.rows.iter().filter(|row| row.fetched_s.is_some() && !row.is_young(oldest_s));
        old.map(|row| row.config.issuer.clone()).collect()
    }

    /// What is left out, and what went wrong at the last fetch.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.rows.iter().flat_map(|row| row.problems.iter().chain(&row.error).cloned()).collect()
    }
}

// === impl Row ===

impl Row {
    /// Whether the keys were fetched for this row, as it is configured now.
    fn is_of(&self, kept: &KeptRow) -> bool {
        let uri = self.config.jwks_uri.as_ref();
        self.config.issuer == kept.issuer && uri.is_none_or(|uri| *uri == kept.jwks_uri)
    }

    fn use_kept(&mut self, kept: KeptRow, now_s: u64) {
        let KeptRow { issuer: _, jwks_uri, jwks, fetched_s } = kept;
        (self.jwks_uri, self.fetched_from) = (Some(jwks_uri.clone()), jwks_uri);
        self.keys = jwks;
        // A clock that was put back makes keys no younger than now.
        self.fetched_s = Some(fetched_s.min(now_s));
    }

    fn to_keep(&self) -> Option<KeptRow> {
        Some(KeptRow {
            issuer: self.config.issuer.clone(),
            jwks_uri: self.fetched_from.clone(),
            jwks: self.keys.clone(),
            fetched_s: self.fetched_s?,
        })
    }

    fn is_young(&self, oldest_s: u64) -> bool {
        self.fetched_s.is_some_and(|at| at >= oldest_s)
    }

    fn took(&mut self, answer: Result<Keys, PlaneError>, now_s: u64) -> Took {
        let nothing = Took { changed: false, fetched: false };
        let name = &self.config.issuer;
        match answer {
            // An empty set would refuse everybody: a mistake of the issuer's far more often than its wish, and one that
            // the bound on the keys' age puts right if it is not.
            Ok(Keys { set, .. }) if set.keys.is_empty() => {
                self.error = Some(format!("issuer {name:?}: its key set is empty; the keys of before stay"));
                nothing
            }
            Ok(Keys { uri, set, problems }) => {
                let changed = set != self.keys || self.fetched_s.is_none();
                (self.keys, self.problems, self.error) = (set, problems, None);
                (self.jwks_uri, self.fetched_from) = (Some(uri.clone()), uri);
                self.fetched_s = Some(now_s);
                Took { changed, fetched: true }
            }
            Err(error) => {
                self.error = Some(format!("issuer {name:?}: {error}; the keys of before stay"));
                // It may have moved.
                self.jwks_uri = self.config.jwks_uri.clone();
                nothing
            }
        }
    }
}

// === impl Question ===

impl Question {
    /// Asks it.
    pub(crate) fn ask(&self, plane: &Plane) -> Result<Keys, PlaneError> {
        let Question { at: _, issuer, uri } = self;
        let fail = |message: String| PlaneError::Answer { what: WHAT, message };
        let uri = match uri {
            Some(uri) => uri.clone(),
            None => discover(plane, issuer)?,
        };
        let text = plane.get(WHAT, &uri)?;
        let (set, problems) = read_keys(issuer, &text).map_err(|error| fail(format!("{uri}: {error}")))?;
        Ok(Keys { uri, set, problems })
    }
}

//= https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfigurationValidation
//# The issuer value returned MUST be identical to the Issuer URL that was used as the prefix to
//# /.well-known/openid-configuration to retrieve the configuration information.
fn discover(plane: &Plane, issuer: &str) -> Result<String, PlaneError> {
    #[derive(Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let fail = |message: String| PlaneError::Answer { what: WHAT, message };
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let text = plane.get(WHAT, &url)?;
    let Metadata { issuer: named, jwks_uri } =
        serde_json::from_slice(&text).map_err(|error| fail(format!("{url}: {error}")))?;
    if named != issuer {
        return Err(fail(format!("{url}: it is the metadata of {named:?}")));
    }
    Ok(jwks_uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_issuer_answers_makes_nobody_forget_the_keys_of_another() {
        let config = |issuer: &str| IssuerConfig {
            issuer: issuer.to_owned(),
            audiences: vec!["a".to_owned()],
            leeway_s: 0,
            jwks_uri: None,
        };
        let mut issuers = Issuers::new(vec![config("one"), config("two")], Duration::ZERO, Vec::new(), 100);
        let questions = issuers.due(false);
        let keys = |kid: &str| {
            let set = serde_json::from_str(&format!(r#"{{"keys": [{{"kty": "EC", "kid": "{kid}"}}]}}"#));
            Ok(Keys { uri: format!("https://{kid}/keys"), set: set.unwrap(), problems: Vec::new() })
        };
        let took: Vec<bool> =
            questions.iter().map(|question| issuers.took(question, keys("k"), 100).fetched).collect();
        assert_eq!(took, [true, true]);
        let down = PlaneError::Status { what: WHAT, status: 503, message: String::new() };
        assert!(!issuers.took(&questions[0], Err(down), 200).fetched);
        assert!(issuers.took(&questions[1], keys("l"), 200).fetched);
        let kept: Vec<_> =
            issuers.to_keep().into_iter().map(|row| (row.issuer, row.jwks_uri, row.fetched_s)).collect();
        let row = |issuer: &str, uri: &str, at| (issuer.to_owned(), uri.to_owned(), at);
        assert_eq!(kept, [row("one", "https://k/keys", 100), row("two", "https://l/keys", 200)]);
    }
}
