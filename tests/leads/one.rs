//! A lead with many analyses, and one that is deleted while it is being analyzed.

use std::sync::Arc;

use super::{PATH, lead_of};
use crate::harness::{Account, Value, World, json, stack_test, until};

impl Account {
    /// Inserts an uncharged failed analysis of a lead, started at this hour of one day. Returns its run.
    async fn written_analysis(&self, lead: &str, tier: &str, hour: usize) -> String {
        let sql = "INSERT INTO analyses (run_id, account_id, business_profile_id, lead_id, username, analysis_type, status, error_code,
                       created_at, completed_at)
                   SELECT 'run_' || replace(gen_random_uuid()::text, '-', ''), account_id, business_profile_id, id, username, $2, 'failed',
                       'INTERNAL_ERROR', t, t + interval '1 minute'
                   FROM leads, make_timestamptz(2026, 4, 1, $3, 0, 0, 'UTC') t WHERE id = $1::text::uuid RETURNING run_id";
        let hour = i32::try_from(hour).expect("an hour");
        self.world.db.value(sql, &[&lead, &tier, &hour]).await.expect("an analysis")
    }

    /// Returns the runs in the list of a lead's analyses.
    async fn runs_of(&self, lead: &str, query: &str) -> Vec<String> {
        let analyses = self.get(&format!("{PATH}/{lead}/analyses{query}")).await.data(200);
        let run = |analysis: &Value| analysis["run_id"].as_str().expect("a run").to_owned();
        analyses.as_array().expect("a list").iter().map(run).collect()
    }
}

#[stack_test]
async fn analyses_are_listed_newest_first_whatever_their_status(world: Arc<World>) {
    let account = world.account(0).await;
    let lead = account.written_lead(&world.handle("many"), &json!({})).await;
    let mut runs = Vec::new();
    for number in 0..12 {
        runs.push(account.written_analysis(&lead, ["light", "deep", "xray"][number % 3], number).await);
    }
    runs.reverse();
    assert_eq!(account.runs_of(&lead, "").await, runs[..10]);
    assert_eq!(account.runs_of(&lead, "?limit=50").await, runs);
    assert_eq!(account.runs_of(&lead, "?limit=3").await, runs[..3]);
    let deep = [&runs[1], &runs[4], &runs[7], &runs[10]];
    assert_eq!(account.runs_of(&lead, "?analysisType=deep&limit=50").await.iter().collect::<Vec<_>>(), deep);
    assert_eq!(account.runs_of(&lead, "?analysisType=deep&limit=2").await.iter().collect::<Vec<_>>(), deep[..2]);
    // All of them count, and none has a result that the lead includes. Deleted ones do not count.
    let path = format!("{PATH}/{lead}");
    let about = async || {
        let lead = account.get(&path).await.data(200);
        ["analyses_count", "latest_analysis"].map(|name| lead[name].clone())
    };
    assert_eq!(about().await, [json!(12), json!(null)]);
    world.db.rows("UPDATE analyses SET deleted_at = now() WHERE run_id = $1", &[&runs[0]]).await;
    assert_eq!(about().await, [json!(11), json!(null)]);
    assert_eq!(account.runs_of(&lead, "?limit=50").await, runs[1..]);
}

#[stack_test]
async fn parameters_of_the_analyses_list_out_of_bounds_are_rejected(world: Arc<World>) {
    let account = world.account(0).await;
    let lead = account.written_lead(&world.handle("bounds"), &json!({})).await;
    let path = format!("{PATH}/{lead}/analyses");
    for (query, name, code) in [
        ("limit=0", "limit", "invalid"),
        ("limit=-1", "limit", "invalid"),
        ("limit=51", "limit", "invalid"),
        ("limit=ten", "limit", "invalid"),
        ("limit=", "limit", "invalid"),
        ("limit=99999999999999999999999", "limit", "invalid"),
        ("limit=1&limit=1", "limit", "invalid"),
        ("analysisType=heavy", "analysisType", "invalid"),
        ("analysisType=", "analysisType", "invalid"),
        ("analysisType=%00", "analysisType", "invalid"),
        ("analysisType=light&analysisType=deep", "analysisType", "invalid"),
        ("tier=light", "tier", "unknown"),
    ] {
        let faults = account.get(&format!("{path}?{query}")).await.faults();
        assert_eq!(faults, [(name.to_owned(), code.to_owned())], "{query}");
    }
    for query in ["limit=1", "limit=50", "analysisType=xray", "analysisType=LIGHT"] {
        assert_eq!(account.runs_of(&lead, &format!("?{query}")).await, Vec::<String>::new(), "{query}");
    }
}

#[stack_test]
async fn a_run_that_completes_after_its_lead_was_deleted_creates_a_new_lead(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("meanwhile");
    let first = account.run(&handle, "light").await.run_id;
    let old = lead_of(&world, &first).await;
    world.slow_model("openai", &handle, 2000).await;
    let second = account.start(&handle, "light").await;
    until("the second run under way", std::time::Duration::from_mins(1), || async {
        world.db.value::<i32>("SELECT 1 FROM analyses WHERE run_id = $1 AND status = 'processing'", &[&second]).await
    })
    .await;
    assert_eq!(account.call("DELETE", &format!("{PATH}/{old}"), None).await.status, 204);
    assert_eq!(account.ended(&second).await.status(), "completed");
    // The paid analysis belongs to the new lead. The deleted lead stays deleted.
    account.result(&second).await.data(200);
    let new = lead_of(&world, &second).await;
    assert_ne!(new, old);
    assert_eq!(account.runs_of(&new, "").await, [second]);
    account.get(&format!("{PATH}/{old}")).await.problem(404, "NOT_FOUND");
    let conflict = account.call("POST", &format!("{PATH}/{old}/restore"), None).await.problem(409, "LEAD_EXISTS");
    assert_eq!(conflict["details"], json!({ "lead_id": new }));
    assert_eq!(account.call("DELETE", &format!("{PATH}/{new}"), None).await.status, 204);
    let restored = account.call("POST", &format!("{PATH}/{old}/restore"), None).await.data(200);
    assert_eq!((&restored["lead_id"], &restored["analyses_restored"]), (&json!(old), &json!(1)));
    assert_eq!(account.runs_of(&old, "").await, [first]);
    assert_eq!(account.balance().await, 7);
}

#[stack_test]
async fn runs_without_a_result_belong_to_the_lead_that_is_known(world: Arc<World>) {
    let account = world.account(10).await;
    let handle = world.handle("known");
    let done = account.run(&handle, "light").await;
    let lead = super::lead_of(&world, &done.run_id).await;
    let end = async |status: &str| {
        let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
        let run = json!({ "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": account.owner().await,
                          "username": handle, "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond() });
        world.db.rows("SELECT admit_analysis($1, $2)", &[&run_id, &run]).await;
        match status {
            "failed" => drop(world.db.rows("SELECT fail_run($1, 'SCRAPE_FAILED')", &[&run_id]).await),
            _ => drop(account.cancel(&run_id).await.data(200)),
        }
        run_id
    };
    let (failed, cancelled) = (end("failed").await, end("cancelled").await);
    // Refused before it was admitted.
    let refused = format!("run_{}", uuid::Uuid::now_v7().simple());
    let run = json!({ "account_id": account.id, "business_profile_id": account.business_profile_id, "username": handle, "tier": "light" });
    world.db.rows("SELECT record_ended_run($1, $2, 'failed', 'PROFILE_PRIVATE', NULL, NULL)", &[&refused, &run]).await;
    assert_eq!(account.runs_of(&lead, "").await, [refused, cancelled, failed, done.run_id.clone()]);
    assert_eq!(account.balance().await, 9);
    // A handle that is no lead yet does not become one by a failure.
    let missing = account.run(&world.handle("missing"), "light").await;
    assert_eq!(missing.status(), "failed");
    let lead: Option<String> = world.db.value("SELECT lead_id::text FROM analyses WHERE run_id = $1", &[&missing.run_id]).await;
    assert_eq!(lead, None);
}
