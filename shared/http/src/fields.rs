//! Reading a JSON object field by field, so that an answer names every fault and not just the first.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::problem::Problem;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: a field's path, or a parameter's name.
    pub path: String,
    /// What is wrong: `required`, `invalid` or `unknown`.
    pub code: &'static str,
    /// What was expected, for people.
    pub message: String,
}

impl Fault {
    /// A value that is there but cannot be used.
    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), code: "invalid", message: message.into() }
    }
}

/// The fields of an object that are not read yet, and the faults found so far.
#[derive(Debug, Default)]
pub struct Fields {
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

/// A type that is read from fields.
pub trait FromFields: Sized {
    /// Reads every field, also after a fault. `None` if something needed is missing or wrong.
    fn from_fields(fields: &mut Fields) -> Option<Self>;
}

impl Fields {
    /// A required field, read by `read`. Null counts as missing.
    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        match self.values.remove(name) {
            None | Some(Value::Null) => {
                self.faults.push(Fault { path: name.to_owned(), code: "required", message: "is required".to_owned() });
                None
            }
            Some(value) => read(&value).map_err(|message| self.faults.push(Fault::invalid(name, message))).ok(),
        }
    }

    /// Reads a `T` out of `value` and reports all faults at once, fields that nobody asked for among them.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every fault.
    pub fn read<T: FromFields>(value: Value) -> Result<T, Problem> {
        let Value::Object(values) = value else {
            return Err(Problem::validation(&[Fault::invalid("", "expected a JSON object")]));
        };
        let mut fields = Self { values, faults: Vec::new() };
        let read = T::from_fields(&mut fields);
        let unknown = fields.values.keys().map(|name| Fault {
            path: name.clone(),
            code: "unknown",
            message: "is not a field of this request".to_owned(),
        });
        fields.faults.extend(unknown);
        match read {
            Some(read) if fields.faults.is_empty() => Ok(read),
            _ => Err(Problem::validation(&fields.faults)),
        }
    }
}

/// Reads a text that parses as `T`.
///
/// # Errors
/// Says what was expected.
pub fn text<T: FromStr<Err: Display>>(value: &Value) -> Result<T, String> {
    let text = value.as_str().ok_or("expected a text")?;
    text.parse().map_err(|error: T::Err| {
        let error = error.to_string();
        if error.starts_with("expected") { error } else { format!("expected {error}") }
    })
}

#[cfg(test)]
mod tests {
    use oslira_domain::{Tier, Username};
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Input;
    impl FromFields for Input {
        fn from_fields(fields: &mut Fields) -> Option<Self> {
            let (name, tier) = (fields.required::<Username>("name", text), fields.required::<Tier>("tier", text));
            name.and(tier).map(|_| Self)
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let problem = Fields::read::<Input>(json!({ "name": "a..b", "tier": 3, "extra": 1 })).unwrap_err();
        let paths: Vec<_> =
            problem.details.unwrap().as_array().unwrap().iter().map(|fault| (fault["path"].clone(), fault["code"].clone())).collect();
        assert_eq!(paths, [(json!("name"), json!("invalid")), (json!("tier"), json!("invalid")), (json!("extra"), json!("unknown"))]);
        assert!(Fields::read::<Input>(json!({ "name": "ab", "tier": "deep" })).is_ok());
        assert!(Fields::read::<Input>(json!({ "name": null, "tier": "nope" })).is_err());
        assert!(Fields::read::<Input>(json!([])).is_err());
    }
}
