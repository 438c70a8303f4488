//! One adapter from API Gateway to a handler: it parses, authenticates, limits, validates, logs and answers in one form, so that
//! a handler is only its rule.

mod adapter;
mod auth;
mod fields;
mod problem;
mod reply;
mod request;

pub use adapter::{Access, Gateway, public, run};
pub use auth::{TokenVerifier, VerifierError};
pub use fields::{Fault, Fields, FromFields, text};
pub use problem::Problem;
pub use reply::Reply;
pub use request::{Caller, Request};
