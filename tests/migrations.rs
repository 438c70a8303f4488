//! The schema's way from version to version, as the function `migrate` goes it.

use std::sync::Arc;
use std::time::Duration;

use oslira_db::{Credential, CredentialSource, DbError, Schema};

use crate::harness::{World, cases, connect};

cases!(
    shared: ;
    // The first migration makes roles, which belong to all databases of the server.
    alone: two_deployments_at_once_apply_each_migration_once, a_migration_that_fails_leaves_the_version_before_it_and_goes_on_when_it_can
);

/// What a Supabase project has before our first migration.
const SUPABASE: &str = include_str!("../infra/local/supabase.sql");

async fn supabase(world: &World, name: &str) -> String {
    let url = world.empty_database(name).await;
    connect(&url).await.unwrap().batch_execute(SUPABASE).await.unwrap();
    url
}

async fn migrate(url: &str) -> Result<Schema, DbError> {
    let url = format!("{url}?sslmode=disable");
    let source: CredentialSource = Arc::new(move |_| {
        let url = url.clone().into();
        Box::pin(async move { Ok(Credential { url, ca: None }) })
    });
    oslira_db::migrate(source, Duration::from_mins(2)).await
}

/// How many migrations there are.
fn known() -> usize {
    std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("migrations")).unwrap().count()
}

async fn two_deployments_at_once_apply_each_migration_once(world: Arc<World>) {
    let url = supabase(&world, "migrations_at_once").await;
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    let (one, other) = (one.unwrap(), other.unwrap());
    let mut applied = [one.applied.len(), other.applied.len()];
    applied.sort_unstable();
    assert_eq!(applied, [0, known()], "one applied them, the other waited for it");
    assert_eq!(one.version, other.version);
    let again = migrate(&url).await.unwrap();
    assert_eq!((again.applied, again.version), (Vec::new(), one.version));
}

async fn a_migration_that_fails_leaves_the_version_before_it_and_goes_on_when_it_can(world: Arc<World>) {
    let url = supabase(&world, "migrations_failing").await;
    let client = connect(&url).await.unwrap();
    // Somebody else's function of the same name, in the middle of V013.
    let other = "CREATE FUNCTION take_metrics(p_limit integer) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'";
    client.batch_execute(other).await.unwrap();
    let error = migrate(&url).await.unwrap_err().to_string();
    assert!(error.contains("usage_and_reconciliation") && error.contains("cannot change return type"), "{error}");
    assert!(!error.contains("postgres://"), "{error}");
    let applied = async || {
        let rows = client.query("SELECT version FROM refinery_schema_history ORDER BY version", &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()
    };
    assert_eq!(applied().await, (1..=12).collect::<Vec<_>>());
    let left: Option<String> = client.query_one("SELECT to_regclass('metric_outbox')::text", &[]).await.unwrap().get(0);
    assert_eq!(left, None, "nothing of the failed one stays");
    for role in ["anon", "authenticated", "service_role"] {
        let sql = "SELECT has_table_privilege($1, 'refinery_schema_history', 'SELECT, INSERT, UPDATE, DELETE')";
        let open: bool = client.query_one(sql, &[&role]).await.unwrap().get(0);
        assert!(!open, "{role} could say what is applied");
    }

    // An older database now.
    client.batch_execute("DROP FUNCTION take_metrics(integer)").await.unwrap();
    let schema = migrate(&url).await.unwrap();
    assert_eq!(schema.applied.len(), known() - 12);
    assert_eq!(applied().await.len(), known());
}
