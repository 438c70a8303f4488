//! Reading a JSON object field by field, so that an answer names every fault and not just the first.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::readers::Reader;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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

/// The fields of a request, asked for one by one: those that were given, or, for the API's document, what is asked for.
pub trait Fields {
    /// A required field. Null counts as missing.
    fn required<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value>;

    /// A field that may be missing (`None`) or null (`Some(None)`): what a change leaves alone, and what it clears.
    fn nullable<R: Reader>(&mut self, name: &str, reader: R) -> Option<Option<R::Value>>;

    /// A field that may be missing, but not null.
    fn present<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value>;

    /// A field that may be missing or null and then is `usual`.
    fn or<R: Reader<Value: Serialize>>(&mut self, name: &str, reader: R, usual: R::Value) -> R::Value;

    /// An object inside this one that may be missing, with its faults under its name.
    fn object<T: FromFields>(&mut self, name: &str) -> Option<T>;

    /// As [`Fields::object`], and it must be there.
    fn required_object<T: FromFields>(&mut self, name: &str) -> Option<T>;

    /// A fault that only several fields together make.
    fn fault(&mut self, path: &str, message: impl Into<String>);

    /// Whether everything read so far was right.
    fn is_valid(&self) -> bool;

    /// A field that may be missing or null.
    fn optional<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        self.nullable(name, reader).flatten()
    }
}

/// A type that is read from fields.
pub trait FromFields: Sized {
    /// Reads every field, also after a fault: the answer names every one, and the API's document is made by asking for all of them. `None`
    /// if something needed is missing or wrong.
    fn from_fields(fields: &mut impl Fields) -> Option<Self>;
}

/// The fields that a request gave and nobody has read yet, and the faults found so far.
#[derive(Debug, Default)]
pub struct Given {
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Given {
    /// Something needed is not there.
    fn missing(&mut self, path: &str) {
        self.faults.push(Fault { path: path.to_owned(), code: "required", message: "is required".to_owned() });
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

    /// As [`Given::read`], of an object.
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

impl Fields for Given {
    fn required<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        match self.values.remove(name) {
            None | Some(Value::Null) => {
                self.missing(name);
                None
            }
            Some(value) => reader.read(&value).map_err(|message| self.faults.push(Fault::invalid(name, message))).ok(),
        }
    }

    fn nullable<R: Reader>(&mut self, name: &str, reader: R) -> Option<Option<R::Value>> {
        match self.values.remove(name)? {
            Value::Null => Some(None),
            value => reader.read(&value).map_err(|message| self.faults.push(Fault::invalid(name, message))).ok().map(Some),
        }
    }

    fn present<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        if self.values.contains_key(name) { self.required(name, reader) } else { None }
    }

    fn or<R: Reader<Value: Serialize>>(&mut self, name: &str, reader: R, usual: R::Value) -> R::Value {
        self.optional(name, reader).unwrap_or(usual)
    }

    fn object<T: FromFields>(&mut self, name: &str) -> Option<T> {
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

    fn required_object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        if self.values.get(name).is_none_or(Value::is_null) {
            self.values.remove(name);
            self.missing(name);
            return None;
        }
        self.object(name)
    }

    fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault::invalid(path, message));
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use oslira_domain::{Tier, Username};
    use serde_json::json;

    use super::*;
    use crate::readers::text;

    #[derive(Debug)]
    struct Input;
    impl FromFields for Input {
        fn from_fields(fields: &mut impl Fields) -> Option<Self> {
            let (name, tier) = (fields.required("name", text::<Username>()), fields.required("tier", text::<Tier>()));
            name.and(tier).map(|_| Self)
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let problem = Given::read::<Input>(json!({ "name": "a..b", "tier": 3, "extra": 1 })).unwrap_err();
        let paths: Vec<_> =
            problem.details.unwrap().as_array().unwrap().iter().map(|fault| (fault["path"].clone(), fault["code"].clone())).collect();
        assert_eq!(paths, [(json!("name"), json!("invalid")), (json!("tier"), json!("invalid")), (json!("extra"), json!("unknown"))]);
        assert!(Given::read::<Input>(json!({ "name": "ab", "tier": "deep" })).is_ok());
        assert!(Given::read::<Input>(json!({ "name": null, "tier": "nope" })).is_err());
        assert!(Given::read::<Input>(json!([])).is_err());
    }
}
