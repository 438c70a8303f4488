//! What can go wrong with the database, as far as callers tell it apart.

use oslira_credential::CredentialError;
use tokio_postgres::error::SqlState;

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be reached, is starting or stopping, or took too long. Worth another try.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// It does not accept our login. Worth another try with a fresh secret.
    #[error("database refused the credential")]
    Unauthorized,
    /// Two transactions got in each other's way and this one gave in. Worth another try.
    #[error("transaction conflict: {0}")]
    Conflict(String),
    /// A rule of the schema said no: a constraint, a policy or a trigger. Trying again will not help.
    #[error("database rule {code}: {message}")]
    Rule {
        /// SQLSTATE; our own begin with `OS`.
        code: String,
        /// What the database said. Never the row's data.
        message: String,
    },
    /// An answer that this code does not understand: a migration and a deployment do not fit.
    #[error("unexpected answer of the database: {0}")]
    Unexpected(String),
}

impl DbError {
    /// Whether the same statement may succeed a little later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unauthorized | Self::Conflict(_))
    }
}

impl From<CredentialError> for DbError {
    fn from(error: CredentialError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let source = std::error::Error::source(&error);
            // Never `{error:?}`: a debug form may hold parameters.
            return if error.is_closed() || source.is_some_and(<dyn std::error::Error + 'static>::is::<std::io::Error>) {
                Self::Unavailable(error.to_string())
            } else if let Some(json) = source.and_then(<dyn std::error::Error + 'static>::downcast_ref::<serde_json::Error>) {
                Self::Unexpected(unreadable(json))
            } else {
                Self::Unexpected(error.to_string())
            };
        };
        let message = db.message().to_owned();
        match db.code() {
            code if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Self::Unauthorized,
            code if *code == SqlState::T_R_DEADLOCK_DETECTED
                || *code == SqlState::T_R_SERIALIZATION_FAILURE
                || *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::QUERY_CANCELED =>
            {
                Self::Conflict(message)
            }
            // 08 connection, 53 resources, 57 operator intervention (shutdown, restart, statement timeout).
            // XX000 is how Supabase's pooler reports its own trouble, such as too many clients.
            code if ["08", "53", "57", "XX000"].iter().any(|class| code.code().starts_with(class)) => Self::Unavailable(message),
            code => Self::Rule { code: code.code().to_owned(), message },
        }
    }
}

/// Returns why a JSON document cannot be read. Only names of the schema are repeated, never a row's data.
fn unreadable(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if ["unknown variant", "missing field"].iter().any(|kind| message.starts_with(kind)) {
        message
    } else {
        format!("a value of another type, at column {} of the document", error.column())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(DbError::Unavailable(String::new()).is_retryable());
        assert!(DbError::Unauthorized.is_retryable());
        assert!(DbError::Conflict(String::new()).is_retryable());
        assert!(!DbError::Rule { code: "OS402".into(), message: String::new() }.is_retryable());
        assert!(!DbError::Unexpected(String::new()).is_retryable());
    }

    #[test]
    fn an_unknown_outcome_is_named_and_data_is_not() {
        #[derive(Debug, Deserialize)]
        #[serde(tag = "outcome", rename_all = "snake_case")]
        enum Outcome {
            Granted { credits: i32 },
        }
        let reason = |text: &str| unreadable(&serde_json::from_str::<Outcome>(text).unwrap_err());
        assert!(reason(r#"{"outcome":"lost"}"#).starts_with("unknown variant `lost`, expected `granted`"));
        assert!(reason(r#"{"outcome":"granted"}"#).starts_with("missing field `credits`"));
        assert!(!reason(r#"{"outcome":"granted","credits":"jane@example.com"}"#).contains("jane"));
        let Outcome::Granted { credits } = serde_json::from_str(r#"{"outcome":"granted","credits":3,"later":1}"#).unwrap();
        assert_eq!(credits, 3);
    }
}
