//! The grammar of filters and of the paths of patches, RFC 7644 figures 1 and 7.

use serde_json::Value;

use super::{AttributePath, Filter, Operator};
use crate::scim::{ScimError, ScimKind};

/// A path of a patch: an attribute, perhaps those of its values that satisfy a filter, perhaps a sub-attribute of
/// those.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::scim) struct PatchPath {
    /// The attribute; of a filtered path without its sub-attribute.
    pub attribute: AttributePath,
    /// Which of its values.
    pub filter: Option<Filter>,
    /// Sub-attribute of the filtered values.
    pub sub: Option<String>,
}

/// Reads what is left of a text.
struct Reader<'a> {
    rest: &'a str,
    length: usize,
    depth: usize,
}

/// Longest filter or path, bytes.
const BYTES_MAX: usize = 8_192;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;

pub(super) fn filter(text: &str) -> Result<Filter, ScimError> {
    let mut reader = Reader::new(text)?;
    let filter = reader.either()?;
    reader.end()?;
    Ok(filter)
}

/// Reads the path of a patch.
pub(in crate::scim) fn patch_path(text: &str) -> Result<PatchPath, ScimError> {
    let read = || {
        let mut reader = Reader::new(text)?;
        let attribute = reader.attribute()?;
        let mut path = PatchPath { attribute, filter: None, sub: None };
        if reader.take("[") {
            path.filter = Some(reader.either()?);
            reader.expect("]")?;
            if reader.take(".") {
                path.sub = Some(reader.word()?.to_owned());
            }
        }
        reader.end()?;
        Ok(path)
    };
    read().map_err(|error: ScimError| ScimError::new(ScimKind::InvalidPath, error.detail))
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Reader<'a>, ScimError> {
        if text.len() > BYTES_MAX {
            return Err(ScimError::new(ScimKind::InvalidFilter, format!("longer than {BYTES_MAX} bytes")));
        }
        Ok(Reader { rest: text, length: text.len(), depth: 0 })
    }

    fn either(&mut self) -> Result<Filter, ScimError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong(&format!("nested deeper than {DEPTH_MAX}")));
        }
        let mut filter = self.both()?;
        while self.keyword("or") {
            filter = Filter::Or(Box::new(filter), Box::new(self.both()?));
        }
        self.depth -= 1;
        Ok(filter)
    }

    fn both(&mut self) -> Result<Filter, ScimError> {
        let mut filter = self.term()?;
        while self.keyword("and") {
            filter = Filter::And(Box::new(filter), Box::new(self.term()?));
        }
        Ok(filter)
    }

    fn term(&mut self) -> Result<Filter, ScimError> {
        if self.keyword("not") {
            self.expect("(")?;
            let filter = self.either()?;
            self.expect(")")?;
            return Ok(Filter::Not(Box::new(filter)));
        }
        if self.take("(") {
            let filter = self.either()?;
            self.expect(")")?;
            return Ok(filter);
        }
        let path = self.attribute()?;
        if self.rest.starts_with('[') && self.take("[") {
            let filter = self.either()?;
            self.expect("]")?;
            return Ok(Filter::Nested(path, Box::new(filter)));
        }
        let operator = match self.word()?.to_ascii_lowercase().as_str() {
            "pr" => return Ok(Filter::Present(path)),
            "co" => Operator::Contains,
            "eq" => Operator::Equal,
            "ew" => Operator::EndsWith,
            "ge" => Operator::GreaterOrEqual,
            "gt" => Operator::Greater,
            "le" => Operator::LessOrEqual,
            "lt" => Operator::Less,
            "ne" => Operator::NotEqual,
            "sw" => Operator::StartsWith,
            other => return Err(self.wrong(&format!("`{other}` is no operator"))),
        };
        let value = self.value()?;
        // RFC 7644 table 3: there is no order of booleans.
        if operator.is_of_order() && value.is_boolean() {
            return Err(self.wrong("`true` and `false` are neither greater nor less; write `eq` or `ne`"));
        }
        Ok(Filter::Compare(path, operator, value))
    }

    /// `urn:…:schema:attribute.sub`, or less of it. The sub-attribute is what comes after the last dot behind the last
    /// colon: schemas have dots of their own.
    fn attribute(&mut self) -> Result<AttributePath, ScimError> {
        let word = self.word()?;
        let (schema, rest) = match word.rsplit_once(':') {
            Some((schema, rest)) => (Some(schema.to_owned()), rest),
            None => (None, word),
        };
        let (name, sub) = match rest.split_once('.') {
            // `…:2.0:User` by itself: the number before it is no attribute.
            Some((name, sub)) => (name, Some(sub)),
            None => (rest, None),
        };
        let legal = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$');
        if !legal(name) || sub.is_some_and(|sub| !legal(sub) || sub.contains('.')) {
            return Err(self.wrong(&format!("`{word}` is no attribute")));
        }
        Ok(AttributePath { schema, name: name.to_owned(), sub: sub.map(str::to_owned) })
    }

    fn value(&mut self) -> Result<Value, ScimError> {
        self.space();
        let length = match self.rest.strip_prefix('"') {
            None => self.rest.find([' ', ')', ']']).unwrap_or(self.rest.len()),
            Some(rest) => {
                let mut escaped = false;
                let end = rest.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                end.ok_or_else(|| self.wrong("a string has no end"))? + 2
            }
        };
        let (text, rest) = self.rest.split_at(length);
        let value = serde_json::from_str(text)
            .ok()
            .filter(|value: &Value| !value.is_object() && !value.is_array())
            // Keywords are written in any case.
            .or_else(|| text.eq_ignore_ascii_case("true").then_some(Value::Bool(true)))
            .or_else(|| text.eq_ignore_ascii_case("false").then_some(Value::Bool(false)));
        let value =
            value.ok_or_else(|| self.wrong(&format!("`{text}` is no value; write text in quotes")))?;
        self.rest = rest;
        Ok(value)
    }

    fn word(&mut self) -> Result<&'a str, ScimError> {
        self.space();
        let legal = |c: char| c.is_ascii_alphanumeric() || "_$:.-".contains(c);
        let end = self.rest.find(|c| !legal(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(self.wrong("a name is missing"));
        }
        self.rest = rest;
        Ok(word)
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        self.space();
        let Some((word, rest)) = self.rest.split_at_checked(keyword.len()) else { return false };
        let ends = rest.is_empty() || rest.starts_with([' ', '(']);
        let found = ends && word.eq_ignore_ascii_case(keyword);
        if found {
            self.rest = rest;
        }
        found
    }

    fn take(&mut self, text: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<(), ScimError> {
        if self.take(text) { Ok(()) } else { Err(self.wrong(&format!("`{text}` is missing"))) }
    }

    fn end(&mut self) -> Result<(), ScimError> {
        self.space();
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("there is more than a whole one")) }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    fn wrong(&self, what: &str) -> ScimError {
        let at = self.length - self.rest.len() + 1;
        ScimError::new(ScimKind::InvalidFilter, format!("column {at}: {what}"))
    }
}
