//! The handles of a request, each once in its canonical form, and why other entries are refused.

use std::collections::BTreeSet;

use oslira_domain::{RunId, Username};
use oslira_http::{Reader, errors};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;

/// How many handles a request may name.
pub(crate) const MAX_HANDLES: usize = 100;
/// How many characters of an entry that is no handle the response repeats.
const MAX_ECHO: usize = 64;

/// Why a handle of a request is not analyzed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The live run of the same handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_id: Option<RunId>,
}

impl Refusal {
    /// Returns the refusal of a handle that has a live run.
    pub(crate) fn running(username: &Username, run_id: Option<RunId>) -> Self {
        Self { code: errors::DUPLICATE_ANALYSIS.code(), message: format!("@{username} is already being analyzed."), run_id }
    }
}

/// An entry of the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The handle in its canonical form, or the entry as it was sent.
    pub(crate) text: String,
    pub(crate) handle: Result<Username, Refusal>,
}

/// The request's entries in its order.
#[derive(Debug)]
pub(crate) struct Handles(pub(crate) Vec<Entry>);

impl Handles {
    /// Reads a list of 1 to 100 texts. An entry that is no handle, or repeats one, is refused by itself and no fault of the request.
    fn read(value: &Value) -> Result<Self, String> {
        let entries = value.as_array().filter(|entries| (1..=MAX_HANDLES).contains(&entries.len()));
        let entries = entries.ok_or_else(|| format!("expected a list of 1 to {MAX_HANDLES} handles"))?;
        let mut known = BTreeSet::new();
        let read = |(number, entry): (usize, &Value)| {
            let text = entry.as_str().ok_or_else(|| format!("entry {number}: expected a string"))?;
            Ok(match text.parse::<Username>() {
                Ok(username) if known.insert(username.clone()) => Entry { text: username.to_string(), handle: Ok(username) },
                Ok(username) => {
                    let message = format!("@{username} is in this request more than once.");
                    let refusal = Refusal { code: "DUPLICATE_USERNAME", message, run_id: None };
                    Entry { text: username.to_string(), handle: Err(refusal) }
                }
                Err(error) => {
                    let message = format!("Not a handle: {error}.");
                    let refusal = Refusal { code: "INVALID_USERNAME", message, run_id: None };
                    Entry { text: text.chars().take(MAX_ECHO).collect(), handle: Err(refusal) }
                }
            })
        };
        entries.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the handles, each once, in the order of the request.
    pub(crate) fn valid(&self) -> impl Iterator<Item = &Username> {
        self.0.iter().filter_map(|entry| entry.handle.as_ref().ok())
    }
}

/// Reads [`Handles`].
pub(crate) struct HandleList;

impl Reader for HandleList {
    type Value = Handles;

    fn read(&self, value: &Value) -> Result<Handles, String> {
        Handles::read(value)
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let handle = Username::json_schema(generator);
        json_schema!({ "type": "array", "minItems": 1, "maxItems": MAX_HANDLES, "items": handle })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_that_is_no_handle_or_repeats_one_is_refused_in_its_place() {
        let handles = Handles::read(&json!(["@Nike", "not a handle", "https://instagram.com/nike/", "adidas"])).unwrap();
        let entries: Vec<_> = handles.0.iter().map(|e| (e.text.as_str(), e.handle.as_ref().err().map(|refusal| refusal.code))).collect();
        assert_eq!(
            entries,
            [("nike", None), ("not a handle", Some("INVALID_USERNAME")), ("nike", Some("DUPLICATE_USERNAME")), ("adidas", None)]
        );
        assert_eq!(handles.valid().map(Username::as_str).collect::<Vec<_>>(), ["nike", "adidas"]);
        let long = Handles::read(&json!(["ü".repeat(500)])).unwrap();
        assert_eq!(long.0[0].text.chars().count(), MAX_ECHO);
    }

    #[test]
    fn one_to_a_hundred_texts() {
        let many = |count: usize| json!((0..count).map(|n| format!("h{n}")).collect::<Vec<_>>());
        assert!(Handles::read(&many(1)).is_ok() && Handles::read(&many(100)).is_ok());
        for wrong in [many(0), many(101), json!("nike"), json!(["nike", 1]), json!([null])] {
            assert!(Handles::read(&wrong).is_err(), "{wrong}");
        }
    }
}
