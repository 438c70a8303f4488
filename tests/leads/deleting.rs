//! Deleting and restoring a lead.

use std::sync::Arc;

use futures::future::join_all;

use super::{PATH, lead_of};
use crate::harness::{Account, Answer, Value, World, json, stack_test};

impl Account {
    async fn delete(&self, lead: &str) -> Answer {
        self.call("DELETE", &format!("{PATH}/{lead}"), None).await
    }

    async fn restore(&self, lead: &str) -> Answer {
        self.call("POST", &format!("{PATH}/{lead}/restore"), None).await
    }

    /// Creates a lead with a LIGHT run. Returns its id, the run and the handle.
    async fn new_lead(&self) -> (String, String, String) {
        let handle = self.world.handle("lead");
        let run_id = self.run(&handle, "light").await.run_id;
        (lead_of(&self.world, &run_id).await, run_id, handle)
    }
}

fn restored(lead: &str, handle: &str, analyses: i64) -> Value {
    json!({ "lead_id": lead, "instagram_username": handle, "analyses_restored": analyses, "message": "The lead was restored." })
}

#[stack_test]
async fn deleting_a_lead_deletes_its_analyses_and_frees_its_handle(world: Arc<World>) {
    let account = world.account(9).await;
    let (lead, run_id, handle) = account.new_lead().await;
    let answer = account.delete(&lead).await;
    assert_eq!((answer.status, &answer.body), (204, &json!("")));
    account.delete(&lead).await.problem(404, "NOT_FOUND");
    account.get(&format!("{PATH}/{lead}")).await.problem(404, "NOT_FOUND");
    account.get(&format!("{PATH}/{lead}/analyses")).await.problem(404, "NOT_FOUND");
    account.result(&run_id).await.problem(404, "NOT_FOUND");
    assert_eq!(account.leads(&[]).await["total"], json!(0));
    // The handle can be analyzed again at once, which creates a new lead.
    let again = account.run(&handle, "light").await.run_id;
    let next = lead_of(&world, &again).await;
    assert_ne!(next, lead);
    let detail = account.get(&format!("{PATH}/{next}")).await.data(200);
    assert_eq!((&detail["instagram_username"], &detail["analyses_count"]), (&json!(handle), &json!(1)));
    assert_eq!(account.balance().await, 7);
}

#[stack_test]
async fn a_restored_lead_equals_the_deleted_one(world: Arc<World>) {
    let account = world.account(9).await;
    let (lead, first, handle) = account.new_lead().await;
    let second = account.run(&handle, "light").await.run_id;
    let third = account.run(&handle, "light").await.run_id;
    // One of its analyses was deleted earlier.
    world.db.rows("UPDATE analyses SET deleted_at = now() - interval '1 day' WHERE run_id = $1", &[&second]).await;
    let path = format!("{PATH}/{lead}");
    let before = account.get(&path).await.data(200);
    assert_eq!(account.delete(&lead).await.status, 204);
    assert_eq!(account.restore(&lead).await.data(200), restored(&lead, &handle, 2));
    assert_eq!(account.get(&path).await.data(200), before);
    let analyses = account.get(&format!("{path}/analyses")).await.data(200);
    let runs: Vec<_> = analyses.as_array().unwrap().iter().map(|analysis| analysis["run_id"].clone()).collect();
    assert_eq!(runs, [json!(third), json!(first)]);
    account.result(&first).await.data(200);
    account.result(&second).await.problem(404, "NOT_FOUND");
    // Restoring it again changes nothing. It can be deleted and restored again.
    assert_eq!(account.restore(&lead).await.data(200), restored(&lead, &handle, 0));
    assert_eq!(account.get(&path).await.data(200), before);
    assert_eq!(account.delete(&lead).await.status, 204);
    assert_eq!(account.restore(&lead).await.data(200), restored(&lead, &handle, 2));
    // The next analysis updates the same lead.
    let next = account.run(&handle, "light").await.run_id;
    assert_eq!(lead_of(&world, &next).await, lead);
}

#[stack_test]
async fn a_lead_whose_handle_is_a_lead_again_is_not_restored(world: Arc<World>) {
    let account = world.account(9).await;
    let (old, old_run, handle) = account.new_lead().await;
    assert_eq!(account.delete(&old).await.status, 204);
    let new = lead_of(&world, &account.run(&handle, "light").await.run_id).await;
    let conflict = account.restore(&old).await.problem(409, "LEAD_EXISTS");
    assert_eq!(conflict["details"], json!({ "lead_id": new }));
    account.result(&old_run).await.problem(404, "NOT_FOUND");
    assert_eq!(account.delete(&new).await.status, 204);
    assert_eq!(account.restore(&old).await.data(200), restored(&old, &handle, 1));
    account.restore(&new).await.problem(409, "LEAD_EXISTS");
    // Concurrent restorations of both: one succeeds.
    assert_eq!(account.delete(&old).await.status, 204);
    let (one, other) = tokio::join!(account.restore(&old), account.restore(&new));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{one:?} {other:?}");
    assert_eq!(account.leads(&[]).await["total"], json!(1));
}

#[stack_test]
async fn a_lead_is_not_restored_after_thirty_days(world: Arc<World>) {
    let account = world.account(9).await;
    let (lead, _, handle) = account.new_lead().await;
    assert_eq!(account.delete(&lead).await.status, 204);
    let age = async |interval: &str| {
        for (table, id) in [("leads", "id"), ("analyses", "lead_id")] {
            let sql = format!("UPDATE {table} SET deleted_at = deleted_at - $2::text::interval WHERE {id} = $1::text::uuid");
            world.db.rows(&sql, &[&lead, &interval]).await;
        }
    };
    age("30 days").await;
    account.restore(&lead).await.problem(404, "NOT_FOUND");
    age("-1 minute").await;
    assert_eq!(account.restore(&lead).await.data(200), restored(&lead, &handle, 1));
    account.restore(&uuid::Uuid::new_v4().to_string()).await.problem(404, "NOT_FOUND");
}

#[stack_test]
async fn concurrent_deletions_delete_a_lead_once(world: Arc<World>) {
    let account = world.account(9).await;
    let (lead, run_id, handle) = account.new_lead().await;
    for _ in 0..3 {
        let mut statuses: Vec<u16> = join_all((0..8).map(|_| account.delete(&lead))).await.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 404, 404, 404, 404, 404, 404, 404]);
        account.result(&run_id).await.problem(404, "NOT_FOUND");
        assert_eq!(account.restore(&lead).await.data(200), restored(&lead, &handle, 1));
    }
}

#[stack_test]
async fn a_business_profile_counts_its_leads_and_analyses_without_deleted_ones(world: Arc<World>) {
    let account = world.account(9).await;
    let path = format!("/api/business-profiles/{}", account.business_profile_id);
    let counts = async || {
        let profile = account.get(&path).await.data(200);
        let listed = account.get("/api/business-profiles").await.data(200);
        let of = |profile: &Value| (profile["leads_count"].as_i64().unwrap(), profile["analyses_count"].as_i64().unwrap());
        assert_eq!(of(&profile), of(&listed[0]));
        of(&profile)
    };
    assert_eq!(counts().await, (0, 0));
    let (lead, _, handle) = account.new_lead().await;
    account.run(&handle, "light").await;
    account.written_lead(&world.handle("bare"), &json!({})).await;
    assert_eq!(counts().await, (2, 2));
    assert_eq!(account.delete(&lead).await.status, 204);
    assert_eq!(counts().await, (1, 0));
    account.restore(&lead).await.data(200);
    assert_eq!(counts().await, (2, 2));
}
