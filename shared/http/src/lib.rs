//! One adapter from API Gateway to a handler: it parses, authenticates, limits, validates, logs and answers in one form, so that
//! a handler is only its rule.

mod adapter;
mod auth;
mod document;
mod environment;
mod fields;
mod listing;
pub mod openapi;
mod problem;
mod readers;
mod reply;
mod request;
mod webhook;

pub use oslira_aws::limits::{GENERAL, PURCHASES};
pub use oslira_telemetry::init as start_logging;

pub use adapter::{Access, Gateway, public, run};
pub use auth::{TokenVerifier, VerifierError};
pub use document::document;
pub use environment::Environment;
pub use fields::{Fault, Fields, FromFields, Given};
pub use listing::Paging;
pub use problem::Problem;
pub use readers::{Reader, digits, list, number, text, whole, words};
pub use reply::{Page, Reply};
pub use request::{Caller, IdempotencyKey, Query, Request};
pub use webhook::{Delivery, signed};
