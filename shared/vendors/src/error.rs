//! Errors of vendors, by what the caller does about them.

use std::time::Duration;

use oslira_credential::{CredentialError, Refusal};

/// Why a call to a vendor has no usable response.
///
/// Never contains a credential, a profile's text or a vendor's message. A vendor's error code is kept only if it has the form of a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VendorError {
    /// The credential is wrong or lacks a permission, even after it was fetched again.
    #[error("the credential was refused")]
    Unauthorized,
    /// There were too many requests, or the vendor has no free resources yet.
    #[error("too many requests{}", retry_after.map(|wait| format!(", retry after {} ms", wait.as_millis())).unwrap_or_default())]
    RateLimited {
        /// How long the vendor says to wait.
        retry_after: Option<Duration>,
    },
    /// Money, credit or a spending limit is used up. Waiting does not help.
    #[error("the quota is used up ({0})")]
    QuotaExhausted(String),
    /// The vendor is overloaded or failing. Holds the HTTP status, which is 200 where a well-formed response reports the failure.
    #[error("the vendor is overloaded or failing ({0})")]
    Overloaded(u16),
    /// The vendor did not respond in time.
    #[error("no response in time")]
    Timeout,
    /// There was no connection, or it broke.
    #[error("the connection failed ({0})")]
    Transport(&'static str),
    /// The vendor rejected the request as invalid.
    #[error("the request was rejected with {status} ({code})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The vendor's code for it.
        code: String,
    },
    /// The response is not what the vendor documents.
    #[error("the response is not understood: {0}")]
    Invalid(&'static str),
    /// There is no credential to make the call with.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl VendorError {
    /// Whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Overloaded(_)
            | Self::Timeout
            | Self::Transport(_)
            | Self::Invalid(_)
            | Self::Credential(_) => true,
            Self::Unauthorized | Self::QuotaExhausted(_) | Self::Rejected { .. } => false,
        }
    }

    /// Returns how long the vendor says to wait, if it does.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }
}

impl Refusal for VendorError {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_whether_to_retry_and_whether_to_renew_the_credential() {
        let wait = VendorError::RateLimited { retry_after: Some(Duration::from_millis(1500)) };
        assert_eq!(wait.to_string(), "too many requests, retry after 1500 ms");
        assert_eq!(wait.retry_after(), Some(Duration::from_millis(1500)));
        assert!(wait.is_retryable() && !wait.is_refusal());
        assert!(VendorError::Overloaded(529).is_retryable() && VendorError::Timeout.is_retryable());
        assert!(VendorError::Invalid("x").is_retryable() && VendorError::Transport("x").is_retryable());
        assert!(VendorError::Unauthorized.is_refusal() && !VendorError::Unauthorized.is_retryable());
        assert!(!VendorError::QuotaExhausted("x".to_owned()).is_retryable());
        let rejected = VendorError::Rejected { status: 400, code: "bad".to_owned() };
        assert_eq!((rejected.is_retryable(), rejected.retry_after()), (false, None));
    }
}
