//! PostgreSQL's plans of the list: 100,000 leads of one account beside 1,000 other accounts.

use std::sync::Arc;

use oslira_db::leads::{LeadFilter, LeadOrder, list_statement};
use oslira_domain::BusinessProfileId;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::harness::{Value, World, json, stack_test};

const DATABASE: &str = "many_leads";
/// The id of the account with the leads, of its owner and of its business profile.
const ACCOUNT: Uuid = Uuid::from_u128(0x8000_4000_0000_0000_0000);

/// Users, accounts and business profiles 0 to 1,000 with one id each, 100,000 leads of the first and 20 of each of the others, three quarters
/// of them with an analysis. Inserted with `session_replication_role = replica`: the triggers of the ledger do not run.
const ROWS: &str = "
    SET session_replication_role = replica;
    CREATE TEMP TABLE people AS SELECT n, ('00000000-0000-8000-4000-' || lpad(n::text, 12, '0'))::uuid AS id FROM generate_series(0, 1000) n;
    INSERT INTO auth.users (id, email) SELECT id, n || '@example.com' FROM people;
    INSERT INTO users (id, email) SELECT id, email FROM auth.users;
    INSERT INTO accounts (id, owner_id, name, slug) SELECT id, id, 'Account', id FROM people;
    INSERT INTO account_members (account_id, user_id, role) SELECT id, id, 'owner' FROM people;
    INSERT INTO business_profiles (id, account_id, business_name) SELECT id, id, 'Business' FROM people;
    INSERT INTO leads (account_id, business_profile_id, username, display_name, follower_count, last_analyzed_at, created_at)
        SELECT id, id, 'lead_' || i, 'Lead number ' || i, nullif(i * 7919 % 100003, i % 9), CASE WHEN i % 4 > 0 THEN now() - i * interval '1 second' END,
               now() - i * interval '1 minute'
        FROM people, generate_series(1, CASE n WHEN 0 THEN 100000 ELSE 20 END) i;
    INSERT INTO analyses (run_id, account_id, business_profile_id, lead_id, username, analysis_type, status, overall_score, credits_charged, completed_at)
        SELECT 'run_' || replace(id::text, '-', ''), account_id, business_profile_id, id, username, 'light', 'completed', 50, 1, last_analyzed_at
        FROM leads WHERE last_analyzed_at IS NOT NULL;
    SET session_replication_role = origin;";

/// Creates a separate database, so that the rows do not slow down the other tests.
async fn database(world: &World) -> Client {
    let owner = world.db.connect().await;
    owner.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await.unwrap();
    owner.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.unwrap();
    let url = format!("{}/{DATABASE}", world.stack.info().admin_database_url.rsplit_once('/').unwrap().0);
    let client = crate::harness::connect(&url).await.unwrap();
    world.migrate(&url).await;
    client.batch_execute(ROWS).await.unwrap_or_else(|error| panic!("{error:?}"));
    client.batch_execute("VACUUM (ANALYZE) leads, analyses, accounts, account_members, users, business_profiles").await.unwrap();
    client
}

/// Executes the list's statement as `role` and returns its plan.
async fn explain(client: &Client, role: &str, filter: &LeadFilter) -> Value {
    let claims = json!({ "sub": ACCOUNT, "role": "authenticated" }).to_string();
    client.batch_execute("BEGIN").await.unwrap();
    let settings = "SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true)";
    client.query_typed(settings, &[(&role, Type::TEXT), (&claims, Type::TEXT)]).await.unwrap();
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {}", list_statement(filter, false));
    let (profile, pattern) = (filter.business_profile_id.map(|id| id.0), filter.search.as_ref().map(|search| format!("%{search}%")));
    let rows = client
        .query_typed(
            &sql,
            &[
                (&None::<Uuid>, Type::UUID),
                (&50_i64, Type::INT8),
                (&0_i64, Type::INT8),
                (&profile, Type::UUID),
                (&pattern, Type::TEXT),
                (&None::<jiff::Timestamp>, Type::TIMESTAMPTZ),
            ],
        )
        .await
        .unwrap_or_else(|error| panic!("{role}: {sql}: {error:?}"));
    client.batch_execute("COMMIT").await.unwrap();
    rows[0].get::<_, Value>(0)[0].clone()
}

/// Returns how many pages of tables and indexes the execution read: a measure of its work that no other load changes.
fn pages(plan: &Value) -> i64 {
    ["Shared Hit Blocks", "Shared Read Blocks"].iter().filter_map(|blocks| plan["Plan"][blocks].as_i64()).sum()
}

/// Returns the scans of a table in a plan: `Index Scan leads_by_creation`, `Seq Scan leads`, …
fn scans(plan: &Value, found: &mut Vec<String>) {
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    if kind.contains("Scan")
        && let Some(on) = plan["Index Name"].as_str().or(plan["Relation Name"].as_str())
    {
        found.push(format!("{kind} {on}"));
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        scans(part, found);
    }
}

#[stack_test(alone)]
async fn lists_of_100000_leads_use_indexes_and_policies_read_little_more(world: Arc<World>) {
    let client = database(&world).await;
    let list = |order, descending| LeadFilter { business_profile_id: None, search: None, order, descending };
    let newest = || list(LeadOrder::LastAnalyzedAt, true);
    let lists = [
        (newest(), "leads_by_analysis"),
        (list(LeadOrder::LastAnalyzedAt, false), "leads_by_analysis_ascending"),
        (list(LeadOrder::FollowerCount, true), "leads_by_followers"),
        (list(LeadOrder::FollowerCount, false), "leads_by_followers_ascending"),
        (list(LeadOrder::CreatedAt, true), "leads_by_creation"),
        (list(LeadOrder::CreatedAt, false), "leads_by_creation"),
        (LeadFilter { business_profile_id: Some(BusinessProfileId(ACCOUNT)), ..newest() }, ""),
        (LeadFilter { search: Some("number 4242".to_owned()), ..newest() }, ""),
    ];
    for (filter, index) in lists {
        let (owner, user) = (explain(&client, "none", &filter).await, explain(&client, "oslira_api", &filter).await);
        for plan in [&owner, &user] {
            let mut found = Vec::new();
            scans(&plan["Plan"], &mut found);
            for table in ["leads", "analyses"] {
                assert!(!found.contains(&format!("Seq Scan {table}")), "{filter:?}: {found:?}");
            }
            assert!(found.contains(&"Index Scan analyses_lead".to_owned()), "{filter:?}: {found:?}");
            // The page is read from the index of its order, without a sort.
            assert!(index.is_empty() || found.iter().any(|scan| scan == &format!("Index Scan {index}")), "{filter:?}: {found:?}");
        }
        // A policy that looked something up for every row would read at least a page for each.
        let (without, with) = (pages(&owner), pages(&user));
        assert!(without > 0 && with <= without + without / 2 + 50, "{filter:?}: {with} pages with policies, {without} without\n{user}");
    }
    drop(client);
    world.db.connect().await.batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)")).await.unwrap();
}
