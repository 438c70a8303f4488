//! Reads a JSON object field by field, so that a response lists every fault and not only the first one.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::readers::Reader;

/// The fields of a request, read one by one.
///
/// [`RequestFields`] reads them from a request. The API's document reads them from nothing and records their schemas.
pub trait Fields {
    /// Reads a required field. Null counts as missing.
    fn required<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value>;

    /// Reads a field that may be missing (`None`) or null (`Some(None)`): a change keeps the former and clears the latter.
    fn nullable<R: Reader>(&mut self, name: &str, reader: R) -> Option<Option<R::Value>>;

    /// Reads a field that may be missing, but not null.
    fn non_null<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value>;

    /// Reads a field that may be missing or null, and is `default` then.
    fn or_default<R: Reader<Value: Serialize>>(&mut self, name: &str, reader: R, default: R::Value) -> R::Value;

    /// Reads an object that may be missing. Its faults have paths below `name`.
    fn object<T: FromFields>(&mut self, name: &str) -> Option<T>;

    /// Reads a required object. Its faults have paths below `name`.
    fn required_object<T: FromFields>(&mut self, name: &str) -> Option<T>;

    /// Adds a fault that several fields cause together.
    fn fault(&mut self, path: &str, message: impl Into<String>);

    /// Returns whether no fault has been found so far.
    fn is_valid(&self) -> bool;

    /// Reads a field that may be missing or null.
    fn optional<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        self.nullable(name, reader).flatten()
    }
}

/// A type that is read from fields.
pub trait FromFields: Sized {
    /// Reads every field, even after a fault: the response lists all faults, and the API's document records all fields. Returns `None` if
    /// a value that the type needs is missing or invalid.
    fn from_fields(fields: &mut impl Fields) -> Option<Self>;
}

/// The fields of a request that have not been read yet, and the faults found so far.
#[derive(Debug, Default)]
pub struct RequestFields {
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

impl RequestFields {
    /// Reads a `T` from a JSON value.
    ///
    /// # Errors
    /// Returns every fault, fields that `T` does not have among them: a misspelled field must not be ignored.
    pub fn read<T: FromFields>(value: Value) -> Result<T, Vec<Fault>> {
        match value {
            Value::Object(values) => Self::read_object(values),
            _ => Err(vec![Fault::invalid("", "expected a JSON object")]),
        }
    }

    /// Reads a `T` from an object.
    ///
    /// # Errors
    /// See [`RequestFields::read`].
    pub fn read_object<T: FromFields>(values: Map<String, Value>) -> Result<T, Vec<Fault>> {
        let (read, faults) = Self::read_fields(values);
        read.filter(|_| faults.is_empty()).ok_or(faults)
    }

    fn read_fields<T: FromFields>(values: Map<String, Value>) -> (Option<T>, Vec<Fault>) {
        let mut fields = Self { values, faults: Vec::new() };
        let read = T::from_fields(&mut fields);
        let Self { values, mut faults } = fields;
        faults.extend(values.keys().map(|name| Fault::unknown(name)));
        (read, faults)
    }

    fn read_value<R: Reader>(&mut self, name: &str, reader: &R, value: &Value) -> Option<R::Value> {
        reader.read(value).map_err(|message| self.faults.push(Fault::invalid(name, message))).ok()
    }
}

impl Fields for RequestFields {
    fn required<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        match self.values.remove(name) {
            None | Some(Value::Null) => {
                self.faults.push(Fault::required(name));
                None
            }
            Some(value) => self.read_value(name, &reader, &value),
        }
    }

    fn nullable<R: Reader>(&mut self, name: &str, reader: R) -> Option<Option<R::Value>> {
        match self.values.remove(name)? {
            Value::Null => Some(None),
            value => self.read_value(name, &reader, &value).map(Some),
        }
    }

    fn non_null<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        if self.values.contains_key(name) { self.required(name, reader) } else { None }
    }

    fn or_default<R: Reader<Value: Serialize>>(&mut self, name: &str, reader: R, default: R::Value) -> R::Value {
        self.optional(name, reader).unwrap_or(default)
    }

    fn object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        let value = self.values.remove(name)?;
        let Value::Object(values) = value else {
            self.faults.push(Fault::invalid(name, "expected an object"));
            return None;
        };
        let (read, faults) = Self::read_fields(values);
        self.faults.extend(faults.into_iter().map(|fault| fault.inside(name)));
        read
    }

    fn required_object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        if self.values.get(name).is_none_or(Value::is_null) {
            self.values.remove(name);
            self.faults.push(Fault::required(name));
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
    use crate::readers::parsed;

    #[derive(Debug)]
    struct Input;
    impl FromFields for Input {
        fn from_fields(fields: &mut impl Fields) -> Option<Self> {
            let (name, tier) = (fields.required("name", parsed::<Username>()), fields.required("tier", parsed::<Tier>()));
            name.and(tier).map(|_| Self)
        }
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let faults = RequestFields::read::<Input>(json!({ "name": "a..b", "tier": 3, "extra": 1 })).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (fault.path.as_str(), fault.code)).collect();
        assert_eq!(found, [("name", "invalid"), ("tier", "invalid"), ("extra", "unknown")]);
        assert!(RequestFields::read::<Input>(json!({ "name": "ab", "tier": "deep" })).is_ok());
        assert!(RequestFields::read::<Input>(json!({ "name": null, "tier": "nope" })).is_err());
        assert!(RequestFields::read::<Input>(json!([])).is_err());
    }
}
