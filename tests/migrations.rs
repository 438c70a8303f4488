//! Migrations as files, and as the function `migrate` applies them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oslira_credential::Credential;
use oslira_db::{DatabaseLogin, DbError, Schema};

use crate::harness::{World, connect, migration_files, stack_test};

/// What a Supabase project has before our first migration.
const SUPABASE: &str = include_str!("../infra/local/supabase.sql");

async fn supabase(world: &World, name: &str) -> String {
    let url = world.empty_database(name).await;
    connect(&url).await.unwrap().batch_execute(SUPABASE).await.unwrap();
    url
}

async fn migrate(url: &str) -> Result<Schema, DbError> {
    let url = format!("{url}?sslmode=disable");
    let owner = Credential::fixed(DatabaseLogin { url: url.into(), ca: None });
    oslira_db::migrate(&owner, Duration::from_mins(2)).await
}

/// How many migrations there are.
fn known() -> usize {
    migration_files().len()
}

/// Objects that a migration after the first deployment defines again, one entry a time: an applied file must not change.
const REDEFINED: [&str; 0] = [];

/// The statement that defines an object, and where its name stands in it.
const DEFINITIONS: [(&str, &str); 5] = [
    ("function", "CREATE OR REPLACE FUNCTION "),
    ("view", "CREATE OR REPLACE VIEW "),
    ("trigger", "CREATE TRIGGER "),
    ("trigger", "CREATE CONSTRAINT TRIGGER "),
    ("policy", "CREATE POLICY "),
];

/// What a line of a migration defines, such as `function grant_credits` or `trigger guard_run_money on analyses`. `rest` is the text after the
/// line: a trigger's table may stand in it.
fn defined(line: &str, rest: &str) -> Option<String> {
    let (kind, after) = DEFINITIONS.iter().find_map(|(kind, start)| line.strip_prefix(start).map(|after| (*kind, after)))?;
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let table = |text: &str| text.split(" ON ").nth(1).and_then(|text| text.split_whitespace().next()).map(ToOwned::to_owned);
    Some(match kind {
        "trigger" | "policy" => format!("{kind} {name} on {}", table(line).or_else(|| table(rest)).unwrap_or_default()),
        _ => format!("{kind} {name}"),
    })
}

#[stack_test]
async fn every_function_view_trigger_and_policy_is_defined_exactly_once(_: Arc<World>) {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in migration_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            // A definition in any other form would escape this test.
            let other = ["CREATE FUNCTION", "CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE", "CREATE VIEW", "CREATE OR REPLACE TRIGGER"];
            assert!(!other.iter().any(|form| line.to_uppercase().contains(form)), "{name}:{}: {line}", number + 1);
            if let Some(object) = defined(line, &lines[number + 1..].join("\n")) {
                places.entry(object).or_default().push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert!(places.len() > 100, "{places:?}");
    places.retain(|object, places| places.len() != 1 + REDEFINED.iter().filter(|again| *again == object).count());
    assert_eq!(places, BTreeMap::new(), "defined more than once");
}

// Alone, as the other test here: the first migration creates roles, which belong to all databases of the server.
#[stack_test(alone)]
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

#[stack_test(alone)]
async fn a_failed_migration_leaves_the_version_before_it_and_can_be_retried(world: Arc<World>) {
    let url = supabase(&world, "migrations_failing").await;
    let client = connect(&url).await.unwrap();
    // A foreign function of the same name, which the migration before the last one cannot replace.
    let foreign = "CREATE FUNCTION take_metrics(p_limit integer, p_taker uuid) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'";
    client.batch_execute(foreign).await.unwrap();
    let error = migrate(&url).await.unwrap_err().to_string();
    assert!(error.contains("schedules_and_outbox") && error.contains("cannot change return type"), "{error}");
    assert!(!error.contains("postgres://"), "{error}");
    let applied = async || {
        let rows = client.query("SELECT version FROM refinery_schema_history ORDER BY version", &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()
    };
    assert_eq!(applied().await, (1..=8).collect::<Vec<_>>());
    let left: Option<String> = client.query_one("SELECT to_regclass('metric_outbox')::text", &[]).await.unwrap().get(0);
    assert_eq!(left, None, "nothing of the failed one stays");
    // Grants are in the last migration. Until it is applied everything is closed: neither the history nor any table or function is open.
    for role in ["anon", "authenticated", "oslira_api", "service_role"] {
        let sql =
            "SELECT ARRAY(SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
                       AND has_table_privilege($1, oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'))
                || ARRAY(SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname <> 'take_metrics'
                       AND has_function_privilege($1, oid, 'EXECUTE'))";
        let open: Vec<String> = client.query_one(sql, &[&role]).await.unwrap().get(0);
        assert_eq!(open, Vec::<String>::new(), "{role}");
    }

    // An older database now.
    client.batch_execute("DROP FUNCTION take_metrics(integer, uuid)").await.unwrap();
    let schema = migrate(&url).await.unwrap();
    assert_eq!(schema.applied.len(), known() - 8);
    assert_eq!(applied().await.len(), known());
}

/// Until the first deployment files are edited in place, and the local stack replaces a database that has older ones applied.
#[stack_test(alone)]
async fn a_database_with_other_migrations_is_recognized(world: Arc<World>) {
    let url = supabase(&world, "migrations_other").await;
    let client = connect(&url).await.unwrap();
    assert!(!oslira_db::differs(&client).await.unwrap(), "nothing is applied");
    migrate(&url).await.unwrap();
    assert!(!oslira_db::differs(&client).await.unwrap());
    client.batch_execute("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 3").await.unwrap();
    assert!(oslira_db::differs(&client).await.unwrap());
    let error = migrate(&url).await.unwrap_err().to_string();
    assert!(error.contains("leads_and_analyses") && error.contains("different"), "{error}");
}
