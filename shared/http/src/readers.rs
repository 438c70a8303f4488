//! Readers of single values. Each knows what it accepts, and says so in the API's document: limits are written down once.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Number, Value};

/// Control characters other than tab and line breaks, as a class of a regular expression.
const CONTROLS: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";

/// Reads a value of a request, and describes what it accepts.
pub trait Reader {
    /// What is read.
    type Value;

    /// Reads it.
    ///
    /// # Errors
    /// Says what was expected.
    fn read(&self, value: &Value) -> Result<Self::Value, String>;

    /// What it accepts.
    fn schema(&self, generator: &mut SchemaGenerator) -> Schema;
}

/// See [`text`].
pub struct Text<T>(PhantomData<T>);

/// Reads a text that parses as `T`.
pub const fn text<T>() -> Text<T> {
    Text(PhantomData)
}

impl<T: FromStr<Err: Display> + JsonSchema> Reader for Text<T> {
    type Value = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        let text = value.as_str().ok_or("expected a text")?;
        text.parse().map_err(|error: T::Err| {
            let error = error.to_string();
            if error.starts_with("expected") { error } else { format!("expected {error}") }
        })
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// See [`words`].
#[derive(Debug, Clone, Copy)]
pub struct Words {
    least: usize,
    most: usize,
}

/// Reads a text of `least` to `most` characters, without surrounding blanks. PostgreSQL cannot keep a NUL, and no field here has a use
/// for other control characters than line breaks and tabs.
pub const fn words(least: usize, most: usize) -> Words {
    Words { least, most }
}

impl Reader for Words {
    type Value = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let Self { least, most } = *self;
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

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        let Self { least, most } = *self;
        // Surrounding blanks do not count, so a text that must not be empty has something else in it.
        let pattern = match least {
            0 => format!("^[^{CONTROLS}]*$"),
            _ => format!("^[^{CONTROLS}]*[^\\s{CONTROLS}][^{CONTROLS}]*$"),
        };
        json_schema!({ "type": "string", "minLength": least, "maxLength": most, "pattern": pattern })
    }
}

/// See [`whole`] and [`digits`].
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    least: i64,
    most: i64,
    written: bool,
}

/// Reads a whole number of a range, as JSON has it.
pub const fn whole(least: i64, most: i64) -> Whole {
    Whole { least, most, written: false }
}

/// Reads a whole number of a range, as a query has it.
pub const fn digits(least: i64, most: i64) -> Whole {
    Whole { least, most, written: true }
}

impl Reader for Whole {
    type Value = i64;

    fn read(&self, value: &Value) -> Result<i64, String> {
        let Self { least, most, written } = *self;
        let number = if written { value.as_str().and_then(|text| text.parse::<i64>().ok()) } else { value.as_i64() };
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": self.least, "maximum": self.most })
    }
}

/// See [`number`].
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    least: f64,
    most: f64,
}

/// Reads a number of a range.
pub const fn number(least: f64, most: f64) -> Decimal {
    Decimal { least, most }
}

impl Reader for Decimal {
    type Value = f64;

    fn read(&self, value: &Value) -> Result<f64, String> {
        let Self { least, most } = *self;
        value.as_f64().filter(|number| (least..=most).contains(number)).ok_or_else(|| format!("expected a number from {least} to {most}"))
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": Number::from_f64(self.least), "maximum": Number::from_f64(self.most) })
    }
}

/// See [`list`].
#[derive(Debug, Clone, Copy)]
pub struct List<R> {
    most: usize,
    entry: R,
}

/// Reads a list of at most `most` entries, each read by `entry`.
pub const fn list<R: Reader>(most: usize, entry: R) -> List<R> {
    List { most, entry }
}

impl<R: Reader> Reader for List<R> {
    type Value = Vec<R::Value>;

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        let entries = value.as_array().ok_or("expected a list")?;
        if entries.len() > self.most {
            return Err(format!("expected at most {} entries", self.most));
        }
        let read = |(index, entry)| self.entry.read(entry).map_err(|message| format!("entry {index}: {message}"));
        entries.iter().enumerate().map(read).collect()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "maxItems": self.most, "items": self.entry.schema(generator) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a reader's schema says of a value, and what the reader does.
    fn both(reader: &impl Reader, value: &Value) -> (bool, bool) {
        let schema = reader.schema(&mut SchemaGenerator::default());
        (jsonschema::is_valid(schema.as_value(), value), reader.read(value).is_ok())
    }

    #[test]
    fn a_schema_draws_the_line_where_the_reader_does() {
        let texts =
            [("", false), (" \n", false), ("a", true), ("abc", true), ("abcd", false), ("a\u{0}", false), ("a\tb", true), ("äöü", true)];
        for (text, fits) in texts {
            assert_eq!(both(&words(1, 3), &json!(text)), (fits, fits), "{text:?}");
        }
        assert_eq!(both(&words(0, 3), &json!("")), (true, true));
        for (value, fits) in
            [(json!(0), false), (json!(1), true), (json!(9), true), (json!(10), false), (json!(1.5), false), (json!("1"), false)]
        {
            assert_eq!(both(&whole(1, 9), &value), (fits, fits), "{value}");
            assert_eq!(both(&list(2, whole(1, 9)), &json!([value])), (fits, fits), "[{value}]");
        }
        for (value, fits) in [(json!(-0.1), false), (json!(0), true), (json!(0.5), true), (json!(1.5), false), (json!(null), false)] {
            assert_eq!(both(&number(0.0, 1.0), &value), (fits, fits), "{value}");
        }
        for (count, fits) in [(0, true), (2, true), (3, false)] {
            assert_eq!(both(&list(2, whole(1, 9)), &json!(vec![1; count])), (fits, fits), "{count}");
        }
    }

    #[test]
    fn a_query_has_its_numbers_in_digits() {
        for (text, fits) in [("0", false), ("1", true), ("9", true), ("10", false), ("1.0", false), ("x", false)] {
            assert_eq!(digits(1, 9).read(&json!(text)).is_ok(), fits, "{text}");
        }
    }
}
