//! The schema's versions, applied in order, each once.

use crate::connect::{CredentialSource, connect};
use crate::error::DbError;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Applies the migrations that are not applied yet and answers their names. Concurrent callers take turns.
///
/// # Errors
/// When the database cannot be reached or a migration fails; a failed one leaves nothing behind.
pub async fn migrate(source: CredentialSource) -> Result<Vec<String>, DbError> {
    let mut client = connect(&source).await?;
    client.batch_execute("SELECT pg_advisory_lock(7026384201)").await?;
    let report = embedded::migrations::runner().run_async(&mut client).await.map_err(|error| DbError::Unexpected(error.to_string()))?;
    // The history lies in `public`, where Supabase would let every API role write it.
    client
        .batch_execute(
            "REVOKE ALL ON refinery_schema_history FROM PUBLIC, anon, authenticated, service_role;
             ALTER TABLE refinery_schema_history ENABLE ROW LEVEL SECURITY",
        )
        .await?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}
