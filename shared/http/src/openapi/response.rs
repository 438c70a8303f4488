//! The responses of an endpoint.

use serde_json::Value;

/// A successful response.
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) body: SuccessBody,
}

/// The body of a successful response.
pub(super) enum SuccessBody {
    /// No body.
    Empty,
    /// The envelope around `data` of this schema.
    Data(Value),
    /// The envelope around a page of rows; `data` has this schema.
    Page(Value),
    /// A cacheable document of this schema, without envelope. `None` for a 304.
    Document(Option<Value>),
}

/// An error response.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) meaning: String,
    pub(super) details: Option<Value>,
    /// Whether the details are specific to the endpoint.
    pub(super) own_details: bool,
}
