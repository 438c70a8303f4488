//! What each role may do in the database, as a list. Supabase's Data API offers everything that `anon` and `authenticated` may do to everyone.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::Client;

use crate::harness::{Account, World, connect, json, stack_test};

const ROLES: [&str; 6] = ["anon", "authenticated", "oslira_api", "service_role", "oslira_user", "oslira_admin"];

/// The tables that a user may read, under row-level security. Of those in [`HIDDEN`], all columns but the named ones.
const READABLE: [&str; 9] = [
    "account_members",
    "business_profiles",
    "credit_balances",
    "credit_ledger",
    "idempotency_keys",
    "leads",
    "plans",
    "stripe_invoices",
    "subscriptions",
];
/// The columns that a user may not read: answers before the run is paid, and what operators note for each other.
const HIDDEN: [(&str, &[&str]); 3] =
    [("accounts", &["suspended_reason"]), ("analyses", &["ai_answers", "scrape_run_id"]), ("users", &["suspended_reason"])];
/// What `service_role` reads besides.
const INTERNAL: [&str; 10] = [
    "accounts",
    "ai_usage_logs",
    "analyses",
    "ledger_faults",
    "signup_addresses",
    "stripe_customers",
    "stripe_payments",
    "subscription_periods",
    "users",
    "webhook_events",
];

/// What policies call.
const OF_POLICIES: [&str; 1] = ["user_account_ids()"];
/// The API's functions.
const OF_THE_API: [&str; 13] = [
    "analysis_credits(text)",
    "begin_purchase(uuid,text,text,text)",
    "caller_account(uuid)",
    "cancel_analysis(text,jsonb,uuid)",
    "cancel_batch(text,uuid)",
    "claim_idempotency_key(uuid,text,text,text,text)",
    "create_bulk_analyses(uuid,uuid,text,text,jsonb,text,text)",
    "create_business_profile(uuid,jsonb)",
    "delete_lead(uuid,uuid)",
    "restore_lead(uuid,uuid)",
    "run_is_stuck(text,text,timestamp with time zone)",
    "settle_idempotency_key(uuid,text,text)",
    "update_business_profile(uuid,uuid,jsonb)",
];
/// The functions of tasks, consumers and schedules.
const OF_THE_SERVICE: [&str; 35] = [
    "account_faults(uuid[])",
    "admit_analysis(text,jsonb)",
    "analysis_credits(text)",
    "apply_stripe_event(jsonb)",
    "begin_analysis(text)",
    "begin_bulk_group(text,text[])",
    "begin_task(text)",
    "chargeback_credits(uuid,integer,text,text)",
    "complete_analysis(text,jsonb,jsonb,jsonb,boolean,jsonb)",
    "count_expired(text)",
    "count_metrics()",
    "create_account_atomic(uuid,text,text,text)",
    "deduct_credits_atomic(uuid,integer,text,text)",
    "end_stuck_run(text)",
    "fail_pending_runs(text,text[],text)",
    "fail_run(text,text,jsonb,jsonb,jsonb)",
    "get_renewable_subscriptions()",
    "grant_credits(uuid,integer,text,text,text,jsonb,text)",
    "overdue_subscriptions()",
    "owed_periods()",
    "reconcile(uuid,integer)",
    "record_account_call(uuid,jsonb)",
    "record_group_scrape_cost(text,text[],jsonb)",
    "record_group_scrape_run(text,text[],text,text)",
    "record_scrape_run(text,text,text)",
    "record_vendor_calls(text,jsonb,text,jsonb)",
    "refund_run(text)",
    "remove_expired(text,integer)",
    "renew_subscriptions(integer)",
    "run_is_stuck(text,text,timestamp with time zone)",
    "settle_owed_periods(integer)",
    "settle_scrape_cost(text,bigint)",
    "stuck_runs(text,integer)",
    "take_metrics(integer,uuid)",
    "take_unsettled_scrapes(integer)",
];

/// Everything in `public` that a role may do, whether it was granted to the role itself, to one that it inherits from, or to PUBLIC.
const PRIVILEGES: &str = "
    SELECT 'EXECUTE ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND has_function_privilege($1::name, oid, 'EXECUTE')
UNION ALL
    SELECT privilege || ' ' || relname FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
    WHERE relnamespace = 'public'::regnamespace AND CASE WHEN relkind IN ('r', 'p', 'v', 'm', 'f') THEN has_table_privilege($1::name, oid, privilege) END
UNION ALL
    SELECT privilege || ' ' || relname || '.' || attname
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privilege
    WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
      AND CASE WHEN relkind IN ('r', 'p', 'v', 'm', 'f') THEN has_column_privilege($1::name, pg_class.oid, attnum, privilege)
                                                          AND NOT has_table_privilege($1::name, pg_class.oid, privilege) END
UNION ALL
    SELECT privilege || ' ' || relname FROM pg_class, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS privilege
    WHERE relnamespace = 'public'::regnamespace AND CASE WHEN relkind = 'S' THEN has_sequence_privilege($1::name, oid, privilege) END
UNION ALL
    SELECT 'CREATE in ' || nspname FROM pg_namespace WHERE nspname IN ('public', 'auth') AND has_schema_privilege($1::name, oid, 'CREATE')";

async fn privileges(client: &Client, role: &str) -> BTreeSet<String> {
    client.query(PRIVILEGES, &[&role]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[stack_test]
async fn each_role_may_do_what_is_listed_and_nothing_else(world: Arc<World>) {
    let client = world.db.connect().await;
    let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
    let mut columns = BTreeSet::new();
    for (table, hidden) in HIDDEN {
        let all: Vec<String> = client.query(sql, &[&table]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert!(hidden.iter().all(|hidden| all.iter().any(|column| column == hidden)), "{table}: {all:?}");
        columns.extend(all.iter().filter(|column| !hidden.contains(&column.as_str())).map(|column| format!("SELECT {table}.{column}")));
    }
    let execute = |functions: &[&str]| functions.iter().map(|function| format!("EXECUTE {function}")).collect::<BTreeSet<_>>();
    let select = |tables: &[&str]| tables.iter().map(|table| format!("SELECT {table}")).collect::<BTreeSet<_>>();

    let user: BTreeSet<String> = [select(&READABLE), columns, execute(&OF_POLICIES)].concat_sets();
    for role in ROLES {
        let expected = match role {
            "authenticated" => user.clone(),
            "oslira_api" => [user.clone(), execute(&OF_THE_API)].concat_sets(),
            "service_role" => [select(&READABLE), select(&INTERNAL), execute(&OF_THE_SERVICE)].concat_sets(),
            _ => BTreeSet::new(),
        };
        let actual = privileges(&client, role).await;
        let (more, fewer) = (actual.difference(&expected).collect::<Vec<_>>(), expected.difference(&actual).collect::<Vec<_>>());
        assert!(more.is_empty() && fewer.is_empty(), "{role} may also {more:?} and may not {fewer:?}");
    }
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl<const N: usize> ConcatSets for [BTreeSet<String>; N] {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}

/// A connection as a user of Supabase's Data API: the role of the token, and its claims.
async fn signed_in(world: &World, account: &Account) -> Client {
    let client = world.db.connect().await;
    let claims = json!({ "sub": account.owner().await, "role": "authenticated" }).to_string();
    client.execute("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
    client.batch_execute("SET ROLE authenticated").await.unwrap();
    client
}

async fn denied(client: &Client, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.as_db_error().map(|error| error.code().code()), Some("42501"), "{sql}: {error}");
}

#[stack_test]
async fn a_signed_in_user_can_execute_none_of_the_apis_functions(world: Arc<World>) {
    let account = world.account(9).await;
    let user = signed_in(&world, &account).await;
    let (own, profile) = (&account.id, &account.business_profile_id);
    let now = jiff::Timestamp::now().as_millisecond();
    let id = |prefix: &str| format!("{prefix}_{}", uuid::Uuid::now_v7().simple());
    let input = json!({
        "account_id": own, "business_profile_id": profile, "requested_by": account.owner().await, "username": "nike", "tier": "light",
        "requested_at_ms": now,
    });
    let hash = "0".repeat(64);
    // Calls that the API itself would make for this user.
    for attack in [
        format!("SELECT claim_idempotency_key('{own}', 'key', '{hash}', 'work', repeat('x', 100000))"),
        format!("SELECT settle_idempotency_key('{own}', 'key', '{{}}')"),
        format!("SELECT begin_purchase('{own}', 'key', '{hash}', 'work')"),
        format!("SELECT cancel_analysis('{}', '{input}')", id("run")),
        format!(
            "SELECT create_bulk_analyses('{own}', '{profile}', 'light', '{}', '{}')",
            id("batch"),
            json!([{ "run_id": id("run"), "username": "nike" }])
        ),
        format!("SELECT cancel_batch('{}')", id("batch")),
        format!("SELECT create_business_profile('{own}', '{}')", json!({ "business_name": "Another", "business_context_pack": {} })),
        format!("SELECT update_business_profile('{profile}', '{own}', '{}')", json!({ "business_name": "Another" })),
        format!("SELECT delete_lead('{profile}')"),
        format!("SELECT restore_lead('{profile}')"),
        format!("SELECT * FROM caller_account('{own}')"),
    ] {
        denied(&user, &attack).await;
    }
    // And every function there is. (Subqueries, because PostgreSQL folds a strict function of a constant NULL without executing it.)
    let sql = "SELECT format('SELECT %s(%s)', p.oid::regproc, (SELECT coalesce(string_agg(format('(SELECT NULL::%s)', format_type(t, NULL)), ', ' ORDER BY n), '')
                   FROM unnest(p.proargtypes) WITH ORDINALITY AS arguments (t, n)))
               FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.oid <> 'user_account_ids'::regproc";
    let calls: Vec<String> = world.db.rows(sql, &[]).await.iter().map(|row| row.get(0)).collect();
    assert!(calls.len() > 70, "{calls:?}");
    for call in calls {
        denied(&user, &call).await;
    }
    let left = "SELECT (SELECT count(*) FROM idempotency_keys WHERE account_id = $1::text::uuid)
                     + (SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid)";
    assert_eq!((world.db.value::<i64>(left, &[own]).await, account.balance().await), (Some(0), 9));
}

#[stack_test]
async fn a_later_migration_opens_nothing_by_itself(world: Arc<World>) {
    let client = connect(&world.fresh_database("later_migration").await).await.unwrap();
    let mut before = Vec::new();
    for role in ROLES {
        before.push(privileges(&client, role).await);
    }
    client
        .batch_execute(
            "CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, account_id uuid);
             CREATE VIEW later_view AS SELECT * FROM later;
             CREATE SEQUENCE later_sequence;
             CREATE FUNCTION later_function() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        )
        .await
        .unwrap();
    for (role, before) in ROLES.into_iter().zip(before) {
        assert_eq!(privileges(&client, role).await, before, "{role}");
    }
}

#[stack_test]
async fn roles_have_the_attributes_and_memberships_that_are_listed(world: Arc<World>) {
    let sql = "SELECT rolname || concat(CASE WHEN rolcanlogin THEN ' login' END, CASE WHEN rolinherit THEN ' inherit' END,
                   CASE WHEN rolbypassrls THEN ' bypassrls' END, CASE WHEN rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication THEN ' more' END,
                   (SELECT string_agg(' in ' || g.rolname, '' ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))
               FROM pg_roles r WHERE rolname LIKE 'oslira%' ORDER BY rolname";
    let roles: Vec<String> = world.db.rows(sql, &[]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(roles, ["oslira_admin login in service_role", "oslira_api inherit in authenticated", "oslira_user login in oslira_api"]);
}
