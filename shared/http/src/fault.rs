//! What is wrong with a field or a parameter of a request.

use schemars::JsonSchema;
use serde::Serialize;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// The field's path or the parameter's name.
    pub path: String,
    /// The kind of fault: `required`, `invalid` or `unknown`.
    pub code: &'static str,
    /// What is expected, for people.
    pub message: String,
}

impl Fault {
    /// Creates the fault of a value that is not accepted.
    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), code: "invalid", message: message.into() }
    }

    /// Creates the fault of a required field that is missing.
    pub(crate) fn required(path: &str) -> Self {
        Self { path: path.to_owned(), code: "required", message: "is required".to_owned() }
    }

    /// Creates the fault of a field that the request does not have.
    pub(crate) fn unknown(path: &str) -> Self {
        Self { path: path.to_owned(), code: "unknown", message: "is not a field of this request".to_owned() }
    }

    /// Returns the same fault of a field inside the object `name`.
    pub(crate) fn inside(self, name: &str) -> Self {
        Self { path: format!("{name}.{}", self.path), ..self }
    }
}
