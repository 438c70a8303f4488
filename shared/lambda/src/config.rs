//! A function's configuration: a struct, read once from the environment variables that are named as its fields in upper case.
//!
//! A field of a struct type is read from the same variables, so that functions share parts of their configuration. An empty variable
//! counts as absent, because CloudFormation cannot leave a variable out. No crate that was tried does both: `envy` 0.4 and `figment` 0.10
//! fail on an empty variable for an optional number, `envy` and `serde-env` 0.2 on a number in a flattened struct.

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};

/// A configuration that the function cannot run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A variable is absent or empty.
    #[error("environment variable {0} is not set")]
    Missing(String),
    /// A variable has a value that its field cannot hold.
    #[error("environment variable {name} is malformed: {problem}")]
    Malformed {
        /// The variable.
        name: String,
        /// Why its value cannot be used.
        problem: String,
    },
    /// The struct has a field that no environment variable can hold.
    #[error("{0}")]
    Unsupported(String),
}

impl de::Error for ConfigError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Unsupported(message.to_string())
    }
}

impl ConfigError {
    /// Names the variable in an error of the field's own deserialization.
    fn of(self, name: &str) -> Self {
        match self {
            Self::Unsupported(problem) => Self::Malformed { name: name.to_owned(), problem },
            named => named,
        }
    }
}

/// Reads `C` from the environment.
///
/// # Errors
/// Names the variable that is missing or malformed.
pub fn from_env<C: DeserializeOwned>() -> Result<C, ConfigError> {
    from_source(&|name| std::env::var(name).ok())
}

/// Reads `C` from `source`, which returns the value of a variable.
fn from_source<C: DeserializeOwned>(source: &Source<'_>) -> Result<C, ConfigError> {
    C::deserialize(Variables { source })
}

type Source<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// All variables: what a struct is read from.
#[derive(Clone, Copy)]
struct Variables<'a> {
    source: &'a Source<'a>,
}

impl<'de> de::Deserializer<'de> for Variables<'_> {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ConfigError> {
        Err(ConfigError::Unsupported("a configuration is a struct".to_owned()))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_unit()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_map(Fields { variables: self, rest: fields.iter(), current: "" })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit_struct newtype_struct seq tuple tuple_struct
        map enum identifier ignored_any
    }
}

/// The fields of a struct, each with the value of its variable.
struct Fields<'a> {
    variables: Variables<'a>,
    rest: std::slice::Iter<'static, &'static str>,
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ConfigError> {
        let Some(field) = self.rest.next() else { return Ok(None) };
        self.current = field;
        seed.deserialize((*field).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ConfigError> {
        let name = self.current.to_uppercase();
        seed.deserialize(Variable { variables: self.variables, name: &name }).map_err(|error| error.of(&name))
    }
}

/// One variable: what a field is read from.
struct Variable<'a> {
    variables: Variables<'a>,
    name: &'a str,
}

impl Variable<'_> {
    fn value(&self) -> Option<String> {
        (self.variables.source)(self.name).filter(|value| !value.is_empty())
    }

    fn required(&self) -> Result<String, ConfigError> {
        self.value().ok_or_else(|| ConfigError::Missing(self.name.to_owned()))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self) -> Result<T, ConfigError> {
        self.required()?.parse().map_err(|error: T::Err| ConfigError::Unsupported(error.to_string()))
    }
}

impl<'de> de::Deserializer<'de> for Variable<'_> {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_string(self.required()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        if self.value().is_some() { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        self.variables.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_enum(self.required()?.into_deserializer())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_u64(self.parsed()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_bool(self.parsed()?)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Config {
        shared: Shared,
        profile_bucket: String,
        timeout_seconds: u64,
        api: Api,
        catalogue: Option<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Shared {
        environment: String,
        retries: Option<u64>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Api {
        Responses,
        Chat,
    }

    const VARIABLES: [(&str, &str); 6] = [
        ("ENVIRONMENT", "test"),
        ("RETRIES", "2"),
        ("PROFILE_BUCKET", "profiles"),
        ("TIMEOUT_SECONDS", "60"),
        ("API", "chat"),
        ("CATALOGUE", ""),
    ];

    /// Reads a configuration from [`VARIABLES`], of which `name` has another value.
    fn read(name: &str, value: Option<&str>) -> Result<Config, ConfigError> {
        from_source(&|asked| {
            let kept = || VARIABLES.iter().find(|(known, _)| *known == asked).map(|(_, value)| (*value).to_owned());
            if asked == name { value.map(ToOwned::to_owned) } else { kept() }
        })
    }

    #[test]
    fn variables_are_read_by_the_names_of_the_fields() {
        let expected = Config {
            shared: Shared { environment: "test".to_owned(), retries: Some(2) },
            profile_bucket: "profiles".to_owned(),
            timeout_seconds: 60,
            api: Api::Chat,
            catalogue: None,
        };
        assert_eq!(read("", None), Ok(expected));
        assert_eq!(read("RETRIES", None).unwrap().shared.retries, None);
        assert_eq!(from_source::<()>(&|_| None), Ok(()));
    }

    #[test]
    fn a_missing_variable_is_named() {
        for name in ["ENVIRONMENT", "PROFILE_BUCKET", "TIMEOUT_SECONDS", "API"] {
            for absent in [None, Some("")] {
                assert_eq!(read(name, absent), Err(ConfigError::Missing(name.to_owned())));
            }
        }
        assert_eq!(ConfigError::Missing("API".to_owned()).to_string(), "environment variable API is not set");
    }

    #[test]
    fn a_malformed_variable_is_named() {
        for (name, value) in [("TIMEOUT_SECONDS", "soon"), ("RETRIES", "-1")] {
            let error = read(name, Some(value)).unwrap_err();
            assert!(matches!(&error, ConfigError::Malformed { name: named, .. } if named == name), "{error}");
        }
        let unknown = read("API", Some("soap")).unwrap_err();
        assert!(unknown.to_string().starts_with("environment variable API is malformed: unknown variant"), "{unknown}");
    }
}
