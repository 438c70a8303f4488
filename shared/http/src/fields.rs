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
                self.missing(name);
                None
            }
            Some(value) => read(&value).map_err(|message| self.faults.push(Fault::invalid(name, message))).ok(),
        }
    }

    /// A field that may be missing or null, read by `read`.
    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        self.nullable(name, read).flatten()
    }

    /// A field that may be missing (`None`) or null (`Some(None)`): what a change leaves alone, and what it clears.
    pub fn nullable<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<Option<T>> {
        match self.values.remove(name)? {
            Value::Null => Some(None),
            value => read(&value).map_err(|message| self.faults.push(Fault::invalid(name, message))).ok().map(Some),
        }
    }

    /// An object inside this one, with its faults under its name.
    pub fn object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        let value = self.values.remove(name)?;
        let Value::Object(values) = value else {
            self.faults.push(Fault::invalid(name, "expected an object"));
            return None;
        };
        let mut inner = Self { values, faults: Vec::new() };
        let read = T::from_fields(&mut inner);
        inner.refuse_rest();
        self.faults.extend(inner.faults.into_iter().map(|fault| Fault { path: format!("{name}.{}", fault.path), ..fault }));
        read
    }

    /// As [`Fields::object`], and it must be there.
    pub fn required_object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        if self.values.get(name).is_none_or(Value::is_null) {
            self.values.remove(name);
            self.missing(name);
            return None;
        }
        self.object(name)
    }

    /// A field that may be missing, but not null.
    pub fn present<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        if self.values.contains_key(name) { self.required(name, read) } else { None }
    }

    /// Something needed is not there.
    pub fn missing(&mut self, path: &str) {
        self.faults.push(Fault { path: path.to_owned(), code: "required", message: "is required".to_owned() });
    }

    /// A fault that only several fields together make.
    pub fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault::invalid(path, message));
    }

    /// Whether everything read so far was right.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// What nobody asked for is a fault: a misspelt field must not be lost in silence.
    fn refuse_rest(&mut self) {
        let unknown = self.values.keys().map(|name| Fault {
            path: name.clone(),
            code: "unknown",
            message: "is not a field of this request".to_owned(),
        });
        self.faults.extend(unknown);
    }

    /// Reads a `T` out of `value` and reports all faults at once, fields that nobody asked for among them.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every fault.
    pub fn read<T: FromFields>(value: Value) -> Result<T, Problem> {
        let Value::Object(values) = value else {
            return Err(Problem::validation(&[Fault::invalid("", "expected a JSON object")]));
        };
        Self::read_object(values)
    }

    /// As [`Fields::read`], of an object.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every fault.
    pub fn read_object<T: FromFields>(values: Map<String, Value>) -> Result<T, Problem> {
        let mut fields = Self { values, faults: Vec::new() };
        let read = T::from_fields(&mut fields);
        fields.refuse_rest();
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

/// Reads a text of `least` to `most` characters, without surrounding blanks. PostgreSQL cannot keep a NUL, and no field here has a use
/// for other control characters than line breaks and tabs.
pub fn words(least: usize, most: usize) -> impl Fn(&Value) -> Result<String, String> {
    move |value| {
        let text = value.as_str().ok_or("expected a text")?.trim();
        if text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t')) {
            return Err("expected a text without control characters".to_owned());
        }
        if (least..=most).contains(&text.chars().count()) {
            Ok(text.to_owned())
        } else {
            Err(format!("expected {least} to {most} characters"))
        }
    }
}

/// Reads a whole number of a range, as JSON has it.
pub fn whole(least: i64, most: i64) -> impl Fn(&Value) -> Result<i64, String> {
    move |value| {
        value
            .as_i64()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }
}

/// Reads a number of a range.
pub fn number(least: f64, most: f64) -> impl Fn(&Value) -> Result<f64, String> {
    move |value| {
        value.as_f64().filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("expected a number from {least} to {most}"))
    }
}

/// Reads a list of at most `most` entries, each read by `read`.
pub fn list<T>(most: usize, read: impl Fn(&Value) -> Result<T, String>) -> impl Fn(&Value) -> Result<Vec<T>, String> {
    move |value| {
        let entries = value.as_array().ok_or("expected a list")?;
        if entries.len() > most {
            return Err(format!("expected at most {most} entries"));
        }
        entries.iter().enumerate().map(|(index, entry)| read(entry).map_err(|message| format!("entry {index}: {message}"))).collect()
    }
}

/// The number in a query parameter.
pub fn digits(least: i64, most: i64) -> impl Fn(&Value) -> Result<i64, String> {
    move |value| {
        let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }
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
