//! Attacks on the database in raw SQL, in every role that can reach it: ledger and tenancy hold without any of our code.

use std::sync::Arc;

use tokio_postgres::Client;

use crate::harness::{Account, World, json, stack_test};

/// Opens a connection in a role, with the claims of the account's owner.
async fn session(world: &World, role: &str, account: &Account) -> Client {
    let client = world.db.connect().await;
    if role != "owner" {
        let user = owner_of(world, account).await;
        let sql = format!("SELECT set_config('request.jwt.claims', '{{\"sub\":\"{user}\",\"role\":\"{role}\"}}', false); SET ROLE {role}");
        client.batch_execute(&sql).await.unwrap();
    }
    client
}

async fn owner_of(world: &World, account: &Account) -> String {
    world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap()
}

const ROLES: [&str; 6] = ["anon", "authenticated", "oslira_api", "service_role", "oslira_user", "owner"];

/// Executes a statement that must fail, and returns its SQLSTATE.
async fn rejected(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => panic!("succeeded: {sql}"),
        Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).code().code().to_owned(),
    }
}

#[stack_test]
async fn no_role_can_change_a_balance_or_a_ledger_entry(world: Arc<World>) {
    let account = world.account(9).await;
    let ended = account.run(&world.handle("ledger"), "light").await;
    assert_eq!(ended.status(), "completed");
    let id = &account.id;
    let attacks = [
        format!("UPDATE credit_balances SET current_balance = 1000 WHERE account_id = '{id}'"),
        format!("UPDATE credit_balances SET current_balance = -1 WHERE account_id = '{id}'"),
        format!("UPDATE credit_balances SET current_balance = 1000, entry_count = entry_count + 1 WHERE account_id = '{id}'"),
        format!("DELETE FROM credit_balances WHERE account_id = '{id}'"),
        "TRUNCATE credit_balances CASCADE".to_owned(),
        format!("UPDATE credit_ledger SET amount = 1 WHERE account_id = '{id}'"),
        format!("UPDATE credit_ledger SET run_id = NULL, transaction_type = 'purchase', idempotency_key = 'x' WHERE account_id = '{id}'"),
        format!("DELETE FROM credit_ledger WHERE account_id = '{id}'"),
        "TRUNCATE credit_ledger".to_owned(),
        // Entries with a wrong sign or type, or without a run or key.
        entry(id, 5, "analysis", "'x'", "NULL"),
        entry(id, -5, "purchase", "NULL", "'k1'"),
        entry(id, 0, "admin_grant", "NULL", "'k2'"),
        entry(id, 5, "gift", "NULL", "'k3'"),
        entry(id, 5, "purchase", "NULL", "NULL"),
        entry(id, -1, "analysis", "'run_ffffffffffffffffffffffffffffffff'", "NULL"),
        entry(id, -100, "chargeback", "NULL", "'k4'"),
        format!("DELETE FROM accounts WHERE id = '{id}'"),
    ];
    for role in ROLES {
        let client = session(&world, role, &account).await;
        for attack in &attacks {
            let code = rejected(&client, attack).await;
            // 42501: no privilege. The owner has it and meets our triggers (OS…) and constraints (23…).
            assert!(code == "42501" || role == "owner" && (code.starts_with("OS") || code.starts_with("23")), "{role}: {attack}: {code}");
        }
    }
    assert_eq!(account.balance().await, 8);
}

fn entry(account: &str, amount: i32, kind: &str, run: &str, key: &str) -> String {
    format!(
        "INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, run_id, idempotency_key) \
         VALUES ('{account}', {amount}, 999, 999, '{kind}', {run}, {key})"
    )
}

#[stack_test]
async fn no_role_can_charge_or_refund_a_run_twice(world: Arc<World>) {
    let account = world.account(9).await;
    let paid = account.run(&world.handle("paid"), "light").await.run_id;
    let refunded = account.run(&world.handle("private"), "light").await.run_id;
    let id = &account.id;
    for role in ROLES {
        let client = session(&world, role, &account).await;
        for attack in [
            entry(id, -1, "analysis", &format!("'{paid}'"), "NULL"),
            entry(id, -1, "analysis", &format!("'{refunded}'"), "NULL"),
            entry(id, 1, "refund", &format!("'{refunded}'"), "NULL"),
            entry(id, 1, "refund", &format!("'{paid}'"), "NULL"),
            entry(id, 5, "refund", &format!("'{paid}'"), "NULL"),
            // The function cannot refund the completed run either: its commit fails.
            format!("SELECT refund_run('{paid}')"),
            format!("SELECT deduct_credits_atomic('{id}', 2, '{paid}')"),
            format!("SELECT deduct_credits_atomic('{id}', -5, '{paid}')"),
            format!("SELECT grant_credits('{id}', -5, 'admin_grant', 'negative')"),
            format!("SELECT grant_credits('{id}', 5, 'refund', 'no-refund')"),
        ] {
            rejected(&client, &attack).await;
        }
    }
    // Repetitions of valid calls change nothing.
    let admin = session(&world, "service_role", &account).await;
    admin.batch_execute(&format!("SELECT refund_run('{refunded}'); SELECT deduct_credits_atomic('{id}', 1, '{paid}')")).await.unwrap();
    assert_eq!(account.entries(&paid).await, [("analysis".to_owned(), -1)]);
    account.assert_refund_recorded(&refunded, 1, 8).await;
}

#[stack_test]
async fn no_role_can_end_a_run_with_a_wrong_charge_or_refund(world: Arc<World>) {
    let account = world.account(9).await;
    let other = world.account(9).await;
    let handle = world.handle("money");
    world.slow_scrape(&handle, 3000).await;
    let live = account.start(&handle, "light").await;
    crate::harness::until("the charge", std::time::Duration::from_secs(30), || async {
        world.db.value::<String>("SELECT status FROM analyses WHERE run_id = $1 AND status = 'processing'", &[&live]).await
    })
    .await;
    let owner = session(&world, "owner", &account).await;
    for attack in [
        // Failed without a refund, cancelled without a refund, completed without a result.
        format!("UPDATE analyses SET status = 'failed', error_code = 'X', completed_at = now() WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET status = 'cancelled', completed_at = now() WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET status = 'completed', completed_at = now() WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET status = 'pending' WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET credits_charged = 0 WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET credits_charged = 5 WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET account_id = '{}' WHERE run_id = '{live}'", other.id),
        format!("SELECT refund_run('{live}')"),
        // A lead of one account under a business profile of another.
        format!(
            "INSERT INTO leads (account_id, business_profile_id, username) VALUES ('{}', '{}', 'stolen')",
            other.id, account.business_profile_id
        ),
    ] {
        rejected(&owner, &attack).await;
    }
    let ended = account.ended(&live).await;
    assert_eq!(ended.status(), "completed");
    for attack in [
        format!("UPDATE analyses SET status = 'failed', error_code = 'X' WHERE run_id = '{live}'"),
        format!("UPDATE analyses SET overall_score = 100 - overall_score WHERE run_id = '{live}' AND overall_score <> 50"),
        format!("UPDATE analyses SET ai_response = '{{}}' WHERE run_id = '{live}'"),
    ] {
        assert_eq!(rejected(&owner, &attack).await, "OS409", "{attack}");
    }
}

#[stack_test]
async fn tenants_read_and_write_only_their_own_rows(world: Arc<World>) {
    let (victim, attacker) = (world.account(9).await, world.account(9).await);
    let run = victim.run(&world.handle("victim"), "light").await.run_id;
    // A signed-in user of Supabase's Data API, and the API itself in the name of that user.
    for role in ["authenticated", "oslira_api"] {
        let client = session(&world, role, &attacker).await;
        for table in ["business_profiles", "leads", "credit_ledger", "credit_balances", "subscriptions", "account_members"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE account_id <> '{}'", attacker.id);
            let foreign: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(foreign, 0, "{role}: {table}");
        }
        let sql = format!("SELECT count(*) FROM analyses WHERE account_id <> '{}'", attacker.id);
        let foreign: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        let people: i64 = client.query_one("SELECT count(*) FROM users", &[]).await.unwrap().get(0);
        let accounts: i64 = client.query_one("SELECT count(*) FROM accounts", &[]).await.unwrap().get(0);
        assert_eq!((foreign, people, accounts), (0, 1, 1), "{role}");
        for attack in [
            // Answers that are not paid for yet, and the history of migrations.
            "SELECT ai_answers FROM analyses".to_owned(),
            "SELECT * FROM analyses".to_owned(),
            "DELETE FROM refinery_schema_history".to_owned(),
            "SELECT * FROM refinery_schema_history".to_owned(),
            format!("UPDATE accounts SET owner_id = owner_id WHERE id = '{}'", victim.id),
            "UPDATE users SET is_suspended = true".to_owned(),
            format!("INSERT INTO account_members (account_id, user_id, role) SELECT '{}', id, 'owner' FROM users", victim.id),
            format!("UPDATE analyses SET deleted_at = now() WHERE run_id = '{run}'"),
            format!("DELETE FROM leads WHERE account_id = '{}'", victim.id),
            format!(
                "INSERT INTO leads (account_id, business_profile_id, username) VALUES ('{}', '{}', 'x')",
                victim.id, victim.business_profile_id
            ),
            "SELECT * FROM ai_usage_logs".to_owned(),
            "SELECT * FROM ledger_faults".to_owned(),
            "SELECT * FROM auth.users".to_owned(),
            format!("SELECT grant_credits('{}', 100, 'admin_grant', 'gift')", attacker.id),
            format!("SELECT fail_run('{run}', 'X')"),
            "SELECT create_account_atomic(gen_random_uuid())".to_owned(),
        ] {
            assert_eq!(rejected(&client, &attack).await, "42501", "{role}: {attack}");
        }
    }
    // Cancelling a foreign run: not found, with and without claiming that it is one's own.
    let client = session(&world, "oslira_api", &attacker).await;
    let user = owner_of(&world, &attacker).await;
    let input = json!({ "account_id": victim.id, "business_profile_id": victim.business_profile_id, "requested_by": user, "username": "x", "tier": "light" });
    for sql in [format!("SELECT cancel_analysis('{run}')"), format!("SELECT cancel_analysis('{run}', '{input}')")] {
        let answer: crate::harness::Value = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(answer, json!({ "outcome": "not_found" }));
    }
    let anon = session(&world, "anon", &attacker).await;
    for table in ["users", "accounts", "analyses", "leads", "credit_ledger", "credit_balances", "business_profiles", "plans"] {
        assert_eq!(rejected(&anon, &format!("SELECT * FROM {table}")).await, "42501", "{table}");
    }
}

#[stack_test]
async fn the_logins_have_no_privileges_of_their_own(world: Arc<World>) {
    let info = world.stack.info();
    let user = crate::harness::connect(&info.database_url).await.unwrap();
    assert_eq!(rejected(&user, "SELECT * FROM credit_balances").await, "42501");
    for role in ["service_role", "postgres", "oslira_admin"] {
        assert_eq!(rejected(&user, &format!("SET ROLE {role}")).await, "42501", "{role}");
    }
    // Without claims the API's role reads no row.
    user.batch_execute("SET ROLE oslira_api").await.unwrap();
    let seen: i64 = user.query_one("SELECT count(*) FROM analyses", &[]).await.unwrap().get(0);
    assert_eq!(seen, 0);
}

#[stack_test]
async fn no_caller_chooses_who_caused_an_entry(world: Arc<World>) {
    let account = world.account(9).await;
    let user = owner_of(&world, &account).await;
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let input = json!({
        "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": user,
        "username": world.handle("forged"), "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
    });
    let admitted: Option<crate::harness::Value> = world.db.value("SELECT admit_analysis($1, $2)", &[&run_id, &input]).await;
    assert_eq!(admitted.unwrap()["outcome"], json!("admitted"));
    let client = session(&world, "oslira_api", &account).await;
    client.batch_execute("SELECT set_config('oslira.caused_by', 'operator:forged', false)").await.unwrap();
    client.query_one("SELECT cancel_analysis($1)", &[&run_id]).await.unwrap();
    let sql = "SELECT string_agg(transaction_type || ' ' || created_by, ', ' ORDER BY entry_no) FROM credit_ledger WHERE run_id = $1";
    let causes: Option<String> = world.db.value(sql, &[&run_id]).await;
    assert_eq!(causes, Some(format!("analysis user:{user}, refund user:{user}")));
}

#[stack_test]
async fn grants_are_given_once_a_key(world: Arc<World>) {
    let account = world.account(25).await;
    let sql = "SELECT granted FROM grant_credits($1::text::uuid, 10, 'admin_grant', 'payment-1')";
    let grants = (0..20).map(|_| async { world.db.value::<bool>(sql, &[&account.id]).await.unwrap() });
    let granted = futures::future::join_all(grants).await.into_iter().filter(|granted| *granted).count();
    assert_eq!((granted, account.balance().await), (1, 35));
    let taken: Option<i32> = world.db.value("SELECT chargeback_credits($1::text::uuid, 50, 'dispute-1')", &[&account.id]).await;
    let again: Option<i32> = world.db.value("SELECT chargeback_credits($1::text::uuid, 50, 'dispute-1')", &[&account.id]).await;
    assert_eq!((taken, again, account.balance().await), (Some(35), Some(0), 0));
}

#[stack_test]
async fn concurrent_charges_never_overdraw(world: Arc<World>) {
    let account = world.account(60).await;
    let user = owner_of(&world, &account).await;
    let admissions = (0..100).map(|_| {
        let input = json!({
            "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": user,
            "username": world.handle("race"), "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        });
        let run = format!("run_{}", uuid::Uuid::now_v7().simple());
        let world = world.clone();
        async move { world.db.value::<crate::harness::Value>("SELECT admit_analysis($1, $2)", &[&run, &input]).await.unwrap() }
    });
    let outcomes = futures::future::join_all(admissions).await;
    let admitted = outcomes.iter().filter(|outcome| outcome["outcome"] == "admitted").count();
    let rejected = outcomes.iter().filter(|outcome| outcome["error_code"] == "INSUFFICIENT_CREDITS").count();
    assert_eq!((admitted, rejected, account.balance().await), (60, 40, 0));
    // They were admitted but never executed: fail them, so that they do not look stuck.
    let runs =
        world.db.rows("SELECT run_id FROM analyses WHERE account_id = $1::text::uuid AND status = 'processing'", &[&account.id]).await;
    for row in runs {
        world.db.rows("SELECT fail_run($1, 'ABORTED')", &[&row.get::<_, String>(0)]).await;
    }
    assert_eq!(account.balance().await, 60);
}

#[stack_test]
async fn prices_are_the_same_in_code_and_database(world: Arc<World>) {
    for tier in oslira_domain::Tier::ALL {
        let price: Option<i32> = world.db.value("SELECT analysis_credits($1)", &[&tier.as_str()]).await;
        assert_eq!(price, Some(tier.credits().0));
    }
}

#[stack_test]
async fn every_table_has_forced_row_level_security(world: Arc<World>) {
    // (Except for the history of migrations, which its owner must read.)
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
               AND NOT (relrowsecurity AND (relforcerowsecurity OR relname = 'refinery_schema_history'))";
    let open: Vec<String> = world.db.rows(sql, &[]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(open, Vec::<String>::new());
    // No role may set back a sequence, which would make the inserts that draw from it fail.
    for role in ["anon", "authenticated", "oslira_api", "service_role", "oslira_user", "oslira_admin"] {
        let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
                   AND CASE WHEN relkind = 'S' THEN has_sequence_privilege($1, oid, 'USAGE, SELECT, UPDATE') END";
        let open: Vec<String> = world.db.rows(sql, &[&role]).await.iter().map(|row| row.get(0)).collect();
        assert_eq!(open, Vec::<String>::new(), "{role}");
    }
    // No function runs with its caller's search path, and `anon` may execute none.
    let sql = "SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
               AND (p.prosecdef AND p.proconfig IS NULL OR has_function_privilege('anon', p.oid, 'EXECUTE'))";
    let open: Vec<String> = world.db.rows(sql, &[]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(open, Vec::<String>::new());
}

#[stack_test]
async fn migrations_can_be_applied_twice(world: Arc<World>) {
    let url = world.fresh_database("twice").await;
    world.migrate(&url).await;
}
