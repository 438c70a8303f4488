//! Readers of single values. A reader validates a value and describes in the API's document what it accepts, so that a limit is stated
//! once.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Number, Value};

/// Control characters except tab and line breaks, as a class of a regular expression.
const CONTROLS: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";

/// Reads a value of a request and describes what it accepts.
pub trait Reader {
    /// The type of the value.
    type Value;

    /// Reads the value.
    ///
    /// # Errors
    /// Returns what was expected, for people.
    fn read(&self, value: &Value) -> Result<Self::Value, String>;

    /// Returns the schema of the values that are accepted.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;
}

/// See [`parsed`].
pub struct Parsed<T>(PhantomData<T>);

/// Reads a string that parses as `T`.
pub const fn parsed<T>() -> Parsed<T> {
    Parsed(PhantomData)
}

impl<T: FromStr<Err: Display> + JsonSchema> Reader for Parsed<T> {
    type Value = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        let text = value.as_str().ok_or("expected a string")?;
        text.parse().map_err(|error: T::Err| {
            let error = error.to_string();
            if error.starts_with("expected") { error } else { format!("expected {error}") }
        })
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// See [`string`].
#[derive(Debug, Clone, Copy)]
pub struct BoundedString {
    min: usize,
    max: usize,
}

/// Reads a string of `min` to `max` characters and trims it. Control characters except line breaks and tabs are rejected: PostgreSQL
/// cannot store a NUL, and no field has a use for the others.
pub const fn string(min: usize, max: usize) -> BoundedString {
    BoundedString { min, max }
}

impl Reader for BoundedString {
    type Value = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let Self { min, max } = *self;
        let text = value.as_str().ok_or("expected a string")?.trim();
        if text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t')) {
            return Err("expected a string without control characters".to_owned());
        }
        if (min..=max).contains(&text.chars().count()) { Ok(text.to_owned()) } else { Err(format!("expected {min} to {max} characters")) }
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let Self { min, max } = *self;
        // The string is trimmed before it is measured, so one that must not be empty has a character other than whitespace.
        let pattern = match min {
            0 => format!("^[^{CONTROLS}]*$"),
            _ => format!("^[^{CONTROLS}]*[^\\s{CONTROLS}][^{CONTROLS}]*$"),
        };
        json_schema!({ "type": "string", "minLength": min, "maxLength": max, "pattern": pattern })
    }
}

/// See [`integer`] and [`integer_param`].
#[derive(Debug, Clone, Copy)]
pub struct Integer {
    min: i64,
    max: i64,
    in_query: bool,
}

/// Reads an integer from `min` to `max` in a JSON body.
pub const fn integer(min: i64, max: i64) -> Integer {
    Integer { min, max, in_query: false }
}

/// Reads an integer from `min` to `max` in a query, where values are strings.
pub const fn integer_param(min: i64, max: i64) -> Integer {
    Integer { min, max, in_query: true }
}

impl Reader for Integer {
    type Value = i64;

    fn read(&self, value: &Value) -> Result<i64, String> {
        let Self { min, max, in_query } = *self;
        let number = if in_query { value.as_str().and_then(|text| text.parse::<i64>().ok()) } else { value.as_i64() };
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| format!("expected an integer from {min} to {max}"))
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }
}

/// See [`decimal`].
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    min: f64,
    max: f64,
}

/// Reads a number from `min` to `max`.
pub const fn decimal(min: f64, max: f64) -> Decimal {
    Decimal { min, max }
}

impl Reader for Decimal {
    type Value = f64;

    fn read(&self, value: &Value) -> Result<f64, String> {
        let Self { min, max } = *self;
        value.as_f64().filter(|number| (min..=max).contains(number)).ok_or_else(|| format!("expected a number from {min} to {max}"))
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": Number::from_f64(self.min), "maximum": Number::from_f64(self.max) })
    }
}

/// See [`list`].
#[derive(Debug, Clone, Copy)]
pub struct List<R> {
    max: usize,
    entry: R,
}

/// Reads a list of at most `max` entries, each read by `entry`.
pub const fn list<R: Reader>(max: usize, entry: R) -> List<R> {
    List { max, entry }
}

impl<R: Reader> Reader for List<R> {
    type Value = Vec<R::Value>;

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        let entries = value.as_array().ok_or("expected a list")?;
        if entries.len() > self.max {
            return Err(format!("expected at most {} entries", self.max));
        }
        let read = |(index, entry)| self.entry.read(entry).map_err(|message| format!("entry {index}: {message}"));
        entries.iter().enumerate().map(read).collect()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "maxItems": self.max, "items": self.entry.schema(generator) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns whether a reader's schema accepts a value, and whether the reader does.
    fn both(reader: &impl Reader, value: &Value) -> (bool, bool) {
        let schema = reader.schema(&mut SchemaGenerator::default());
        (jsonschema::is_valid(schema.as_value(), value), reader.read(value).is_ok())
    }

    #[test]
    fn a_schema_accepts_exactly_what_its_reader_accepts() {
        let texts =
            [("", false), (" \n", false), ("a", true), ("abc", true), ("abcd", false), ("a\u{0}", false), ("a\tb", true), ("äöü", true)];
        for (text, accepted) in texts {
            assert_eq!(both(&string(1, 3), &json!(text)), (accepted, accepted), "{text:?}");
        }
        assert_eq!(both(&string(0, 3), &json!("")), (true, true));
        for (value, accepted) in
            [(json!(0), false), (json!(1), true), (json!(9), true), (json!(10), false), (json!(1.5), false), (json!("1"), false)]
        {
            assert_eq!(both(&integer(1, 9), &value), (accepted, accepted), "{value}");
            assert_eq!(both(&list(2, integer(1, 9)), &json!([value])), (accepted, accepted), "[{value}]");
        }
        for (value, accepted) in [(json!(-0.1), false), (json!(0), true), (json!(0.5), true), (json!(1.5), false), (json!(null), false)] {
            assert_eq!(both(&decimal(0.0, 1.0), &value), (accepted, accepted), "{value}");
        }
        for (count, accepted) in [(0, true), (2, true), (3, false)] {
            assert_eq!(both(&list(2, integer(1, 9)), &json!(vec![1; count])), (accepted, accepted), "{count}");
        }
    }

    #[test]
    fn an_integer_in_a_query_is_a_string_of_digits() {
        for (text, accepted) in [("0", false), ("1", true), ("9", true), ("10", false), ("1.0", false), ("x", false)] {
            assert_eq!(integer_param(1, 9).read(&json!(text)).is_ok(), accepted, "{text}");
        }
    }
}
