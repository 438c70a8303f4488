//! Reading an object of Stripe's by JSON pointer, with errors that name the field.

use oslira_domain::AccountId;
use serde_json::Value;

use super::InvalidEvent;

/// The one currency that we sell in.
const CURRENCY: &str = "usd";

pub(super) const fn missing(path: &'static str) -> InvalidEvent {
    InvalidEvent { path, problem: "is missing: is the endpoint of our API version?" }
}

/// An object whose fields are read by JSON pointer. Null counts as missing.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(pub(super) &'a Value);

impl<'a> Object<'a> {
    pub(super) fn at(self, path: &'static str) -> Option<&'a Value> {
        self.0.pointer(path).filter(|value| !value.is_null())
    }

    fn optional<T>(
        self,
        path: &'static str,
        problem: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, InvalidEvent> {
        self.at(path).map(|value| read(value).ok_or(InvalidEvent { path, problem })).transpose()
    }

    pub(super) fn optional_text(self, path: &'static str) -> Result<Option<&'a str>, InvalidEvent> {
        self.optional(path, "is no text", Value::as_str)
    }

    pub(super) fn text(self, path: &'static str) -> Result<&'a str, InvalidEvent> {
        self.optional_text(path)?.ok_or(missing(path))
    }

    /// The id of an object, which may be there in its place.
    pub(super) fn optional_id(self, path: &'static str) -> Result<Option<String>, InvalidEvent> {
        let id = |value: &'a Value| value.as_str().or_else(|| value["id"].as_str()).filter(|id| !id.is_empty()).map(str::to_owned);
        self.optional(path, "is no id", id)
    }

    pub(super) fn id(self, path: &'static str) -> Result<String, InvalidEvent> {
        self.optional_id(path)?.ok_or(missing(path))
    }

    pub(super) fn optional_number(self, path: &'static str) -> Result<Option<i64>, InvalidEvent> {
        self.optional(path, "is no whole number", Value::as_i64)
    }

    pub(super) fn number(self, path: &'static str) -> Result<i64, InvalidEvent> {
        self.optional_number(path)?.ok_or(missing(path))
    }

    /// A number in metadata, where everything is text.
    pub(super) fn digits(self, path: &'static str) -> Result<i64, InvalidEvent> {
        let positive = |value: &Value| value.as_str()?.parse().ok().filter(|number| *number > 0);
        self.optional(path, "is no positive number", positive)?.ok_or(missing(path))
    }

    pub(super) fn account(self, path: &'static str) -> Result<Option<AccountId>, InvalidEvent> {
        self.optional(path, "is no account", |value| value.as_str()?.parse().ok())
    }

    pub(super) fn in_our_currency(self) -> Result<(), InvalidEvent> {
        if self.text("/currency")? == CURRENCY {
            Ok(())
        } else {
            Err(InvalidEvent { path: "/currency", problem: "is none that we sell in" })
        }
    }
}
