//! What can go wrong with a vendor, by what the caller does about it.

use std::time::Duration;

/// A call to a vendor that gave no usable answer.
///
/// Never holds a credential, a profile's text or a vendor's message. A vendor's error code is kept only where it reads like a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VendorError {
    /// The credential is wrong or lacks the permission: fetch the secret anew, once.
    #[error("the credential was refused")]
    Unauthorized,
    /// Too many requests, or no free resources yet.
    #[error("too many requests{}", retry_after.map(|wait| format!(", retry after {} ms", wait.as_millis())).unwrap_or_default())]
    RateLimited {
        /// How long the vendor asks us to wait.
        retry_after: Option<Duration>,
    },
    /// Money, credit or a spending limit has run out: waiting does not help.
    #[error("the quota is used up ({0})")]
    QuotaExhausted(String),
    /// The vendor is overloaded or broken; the HTTP status (200 where a well-formed answer reports the failure).
    #[error("the vendor is overloaded or failing ({0})")]
    Overloaded(u16),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection, or one that broke.
    #[error("the connection failed ({0})")]
    Transport(&'static str),
    /// The vendor says that our request is wrong.
    #[error("the request was rejected with {status} ({code})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The vendor's code for it.
        code: String,
    },
    /// The answer is not what the vendor documents.
    #[error("the answer is not understood: {0}")]
    Invalid(&'static str),
}

impl VendorError {
    /// Whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Overloaded(_) | Self::Timeout | Self::Transport(_) | Self::Invalid(_) => true,
            Self::Unauthorized | Self::QuotaExhausted(_) | Self::Rejected { .. } => false,
        }
    }

    /// Whether a fresh copy of the secret may help.
    pub const fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Unauthorized)
    }

    /// How long the vendor asks us to wait, if it does.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do() {
        let wait = VendorError::RateLimited { retry_after: Some(Duration::from_millis(1500)) };
        assert_eq!(wait.to_string(), "too many requests, retry after 1500 ms");
        assert_eq!(wait.retry_after(), Some(Duration::from_millis(1500)));
        assert!(wait.is_retryable() && !wait.is_unauthorized());
        assert!(VendorError::Overloaded(529).is_retryable() && VendorError::Timeout.is_retryable());
        assert!(VendorError::Invalid("x").is_retryable() && VendorError::Transport("x").is_retryable());
        assert!(VendorError::Unauthorized.is_unauthorized() && !VendorError::Unauthorized.is_retryable());
        assert!(!VendorError::QuotaExhausted("x".to_owned()).is_retryable());
        let rejected = VendorError::Rejected { status: 400, code: "bad".to_owned() };
        assert_eq!((rejected.is_retryable(), rejected.retry_after()), (false, None));
    }
}
