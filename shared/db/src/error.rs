//! Errors of the database, as far as callers distinguish them.

use oslira_credential::CredentialError;
use tokio_postgres::error::SqlState;

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database cannot be reached, is starting or stopping, or took too long. Retryable.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The database, or the pooler in front of it, has no free connection. Retryable.
    #[error("too many connections: {0}")]
    TooManyConnections(String),
    /// The database does not accept the credential. Retryable with a fresh secret.
    #[error("database refused the credential")]
    Unauthorized,
    /// Two transactions conflicted and this one was rolled back. Retryable.
    #[error("transaction conflict: {0}")]
    Conflict(String),
    /// A constraint, a policy or a trigger rejected the statement. Not retryable.
    #[error("database rule {code}: {message}")]
    Rule {
        /// The SQLSTATE. The schema's own begin with `OS`.
        code: String,
        /// The database's message. It never holds data of a row.
        message: String,
    },
    /// A result that this code does not understand: the schema and the deployed code do not match.
    #[error("unexpected result of the database: {0}")]
    Unexpected(String),
}

impl DbError {
    /// Returns whether the same statement may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TooManyConnections(_) | Self::Unauthorized | Self::Conflict(_))
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
        Self::reported(db.code(), db.message().to_owned())
    }
}

impl DbError {
    /// Classifies an error that the server, or a pooler in front of it, reported.
    fn reported(code: &SqlState, message: String) -> Self {
        match code {
            code if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Self::Unauthorized,
            code if *code == SqlState::T_R_DEADLOCK_DETECTED
                || *code == SqlState::T_R_SERIALIZATION_FAILURE
                || *code == SqlState::LOCK_NOT_AVAILABLE
                || *code == SqlState::QUERY_CANCELED =>
            {
                Self::Conflict(message)
            }
            // PostgreSQL and newer poolers report 53300. PgBouncer reports 08P01 with "no more connections allowed (max_client_conn)",
            // Supabase's pooler XX000 with "Max client connections reached" or "MaxClientsInSessionMode: max clients reached".
            code if *code == SqlState::TOO_MANY_CONNECTIONS || is_full_pooler(code, &message) => Self::TooManyConnections(message),
            // 08 connection, 53 resources, 57 operator intervention (shutdown, restart, statement timeout). XX000 is how Supabase's
            // pooler reports its own failures.
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

/// Returns whether a pooler rejected a client because it serves as many as it may.
fn is_full_pooler(code: &SqlState, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["08P01", "XX000"].contains(&code.code())
        && ["max_client_conn", "max client", "maxclients", "too many clients", "too many connections"]
            .iter()
            .any(|text| message.contains(text))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn a_full_pooler_is_retryable_whatever_its_code() {
        let full = [
            ("53300", "sorry, too many clients already"),
            ("08P01", "no more connections allowed (max_client_conn)"),
            ("XX000", "Max client connections reached"),
            ("XX000", "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size"),
        ];
        for (code, message) in full {
            let error = DbError::reported(&SqlState::from_code(code), message.to_owned());
            assert!(matches!(error, DbError::TooManyConnections(_)) && error.is_retryable(), "{code} {message}: {error:?}");
        }
        for (code, message) in [("XX000", "the tenant is paused"), ("57P01", "terminating connection"), ("08006", "connection failure")] {
            assert!(matches!(DbError::reported(&SqlState::from_code(code), message.to_owned()), DbError::Unavailable(_)), "{code}");
        }
        assert!(matches!(DbError::reported(&SqlState::from_code("23505"), "max clients".to_owned()), DbError::Rule { .. }));
    }

    #[test]
    fn only_temporary_errors_are_retryable() {
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
