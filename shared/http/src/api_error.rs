//! The type of the entries of the [catalog of API errors](crate::errors).

use std::marker::PhantomData;

use http::StatusCode;

/// An error that the API responds with: its status, its machine-readable code, its meaning and the type of its `details`.
///
/// Handlers construct responses from it with [`Problem::of`](crate::Problem::of) or
/// [`Problem::with_details`](crate::Problem::with_details), and the API's document describes it by the same entry.
#[derive(Debug)]
pub struct ApiError<D = ()> {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) message: &'static str,
    pub(crate) retry_after: Option<u64>,
    details: PhantomData<fn() -> D>,
}

impl<D> ApiError<D> {
    /// Creates an entry whose message is its meaning. Only the catalog does: a code has one definition.
    pub(crate) const fn new(status: StatusCode, code: &'static str, meaning: &'static str) -> Self {
        Self { status, code, meaning, message: meaning, retry_after: None, details: PhantomData }
    }

    /// Returns the machine-readable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Sets the text that a response carries for people unless the handler writes one of its own.
    #[must_use]
    pub const fn message(self, message: &'static str) -> Self {
        Self { message, ..self }
    }

    /// Sets the seconds after which a retry makes sense (`Retry-After`).
    #[must_use]
    pub const fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Returns the same error with the narrower meaning that it has at some endpoints, which is also its message.
    #[must_use]
    pub const fn meaning(self, meaning: &'static str) -> Self {
        Self { meaning, message: meaning, ..self }
    }

    /// Returns the same error with the details that it has at one endpoint.
    pub const fn details<T>(self) -> ApiError<T> {
        let Self { status, code, meaning, message, retry_after, .. } = self;
        ApiError { status, code, meaning, message, retry_after, details: PhantomData }
    }
}
