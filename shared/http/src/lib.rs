//! From API Gateway to a handler and back: authentication, rate limits, validation, the response envelope, the catalog of API errors and
//! the API's document.

mod adapter;
mod api_error;
mod auth;
mod document;
mod environment;
pub mod errors;
mod fault;
mod fields;
mod idempotency;
mod listing;
pub mod openapi;
mod problem;
mod readers;
mod reply;
mod request;
mod webhook;

pub use oslira_aws::limits::{GENERAL, PURCHASES};
pub use oslira_http_macros::endpoint;
pub use oslira_telemetry::init as start_logging;

pub use adapter::{Access, Gateway, public, run};
pub use api_error::ApiError;
pub use auth::{TokenVerifier, VerifierError};
pub use document::document;
pub use environment::Environment;
pub use fault::Fault;
pub use fields::{Fields, FromFields, RequestFields};
pub use idempotency::Idempotency;
pub use listing::Paging;
pub use problem::Problem;
pub use readers::{Reader, decimal, integer, integer_param, list, parsed, string};
pub use reply::{Page, Reply};
pub use request::{Caller, IdempotencyKey, Query, Request};
pub use webhook::{Delivery, signed};
