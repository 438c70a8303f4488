//! From API Gateway to a handler and back: authentication, rate limits, validation, the response envelope, the catalog of API errors and
//! the API's document.

mod adapter;
mod api_error;
mod auth;
mod config;
mod document;
mod endpoint;
pub mod errors;
mod fault;
mod fields;
mod guard;
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

pub use adapter::{public, run};
pub use api_error::ApiError;
pub use auth::{TokenVerifier, VerifierError};
pub use config::EndpointConfig;
pub use document::document;
pub use endpoint::Endpoint;
pub use fault::Fault;
pub use fields::{Fields, FromFields, RequestFields};
pub use guard::{AccessGuard, RateLimit};
pub use idempotency::Idempotency;
pub use listing::Paging;
pub use problem::Problem;
pub use readers::{Reader, decimal, integer, integer_param, list, parsed, string};
pub use reply::{Page, Reply};
pub use request::{Caller, IdempotencyKey, Query, Request};
pub use webhook::{Delivery, run_webhook};
