//! Identifiers, each with its own type, so that one cannot be passed in the place of another.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidId {
    /// A description of a valid one, for people.
    pub expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId { expected: "a UUID" })
            }
        }
    };
}

uuid_id!(
    /// A person: the `sub` of the Supabase JWT.
    UserId
);
uuid_id!(
    /// A tenant: it owns credits, business profiles and leads.
    AccountId
);
uuid_id!(
    /// A business that leads are judged for.
    BusinessProfileId
);
uuid_id!(
    /// A stored lead.
    LeadId
);

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(inline, extend("pattern" = concat!("^", $prefix, "[0-9a-f]{32}$")))]
        pub struct $name(String);

        impl $name {
            /// Makes an id of a `UUIDv7`, whose time part keeps ids in the order of their creation.
            pub fn new(uuid: Uuid) -> Self {
                Self(format!(concat!($prefix, "{}"), uuid.simple()))
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.strip_prefix($prefix).filter(|hex| hex.len() == 32);
                match digits.map(|hex| hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))) {
                    Some(true) => Ok(Self(text.to_owned())),
                    _ => Err(InvalidId { expected: concat!("`", $prefix, "` and 32 lower-case hexadecimal digits") }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

prefixed_id!(
    /// One run: `run_` and the 32 hexadecimal digits of a `UUIDv7`. It is also the name of the Step Functions execution,
    /// which makes a start idempotent.
    RunId,
    "run_"
);
prefixed_id!(
    /// Runs that were requested together: `batch_` and the 32 hexadecimal digits of a `UUIDv7`.
    BatchId,
    "batch_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_the_hex_of_its_uuid_and_parses_back() {
        let id = RunId::new(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_00ff));
        assert_eq!(id.as_str(), "run_019300000000700080000000000000ff");
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_not_run_ids() {
        for text in ["", "run_", "run_xyz", "batch_019300000000700080000000000000ff", "run_019300000000700080000000000000FF"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_serializes_as_its_text() {
        let id = RunId::new(Uuid::from_u128(0xff));
        let text = "\"run_000000000000000000000000000000ff\"";
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
        assert_eq!(serde_json::from_str::<RunId>(text).unwrap(), id);
        assert!(serde_json::from_str::<BatchId>(text).is_err());
    }

    #[test]
    fn a_batch_id_is_not_a_run_id() {
        let id = BatchId::new(Uuid::from_u128(0xff));
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert!(id.as_str().parse::<RunId>().is_err() && "run_000000000000000000000000000000ff".parse::<BatchId>().is_err());
    }

    #[test]
    fn uuid_ids_say_what_they_expect() {
        assert_eq!("nope".parse::<AccountId>(), Err(InvalidId { expected: "a UUID" }));
        let id = AccountId(Uuid::nil());
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
