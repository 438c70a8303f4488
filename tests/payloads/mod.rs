//! Payloads of earlier versions. During a deployment, executions, queues and progress items hold what the version before wrote: for two weeks in
//! a queue, for an hour and a half in an execution. Each file here has the payloads of one version, and is never edited: a change that cannot
//! read them needs an intermediate version that reads both.

use std::sync::Arc;

use crate::harness::{Account, Value, World, json, stack_test};

/// The payloads of each earlier version.
const VERSIONS: [&str; 1] = [include_str!("2026-11.json")];

/// The payloads of a version for one run.
struct Payloads(Value);

impl Payloads {
    async fn of(version: &str, account: &Account, run_id: &str, handle: &str) -> Self {
        let owner: String =
            account.world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
        let names = [
            ("RUN", run_id),
            ("ACCOUNT", &account.id),
            ("PROFILE", &account.business_profile_id),
            ("USER", &owner),
            ("HANDLE", handle),
            ("BATCH", &format!("batch_{}", &run_id["run_".len()..])),
        ];
        let text = names.iter().fold(version.to_owned(), |text, (name, value)| text.replace(name, value));
        Self(text.parse().unwrap())
    }

    /// Returns a payload, with a field that a later version may add: a rollback meets new payloads with old code.
    fn get(&self, name: &str) -> Value {
        let mut payload = self.0[name].clone();
        assert!(payload.is_object(), "no payload {name}");
        payload["added_later"] = json!({ "by": "a later version" });
        if payload["run"].is_object() {
            payload["run"]["added_later"] = json!(1);
        }
        payload
    }
}

fn new_run() -> String {
    format!("run_{}", uuid::Uuid::now_v7().simple())
}

/// Returns the event of a queue with one message.
fn message(body: &Value) -> Value {
    let id = uuid::Uuid::new_v4();
    json!({ "Records": [{ "messageId": id, "receiptHandle": "none", "attributes": { "ApproximateReceiveCount": "1" }, "messageAttributes": {},
        "md5OfBody": "00", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:000000000000:queue", "awsRegion": "eu-west-1",
        "body": body.to_string() }] })
}

#[stack_test]
async fn tasks_read_the_payloads_of_earlier_versions(world: Arc<World>) {
    for version in VERSIONS {
        let (account, handle, run_id) = (world.account(5).await, world.handle("old.payload"), new_run());
        let payloads = Payloads::of(version, &account, &run_id, &handle).await;
        for task in ["admit", "fetch", "analyze", "save"] {
            let outcome = world.invoke_task(&format!("oslira-local-{task}"), &payloads.get(task)).await;
            assert!(outcome.is_ok(), "{task}: {outcome:?}");
        }
        assert_eq!((account.ended(&run_id).await.status(), account.balance().await), ("completed", 4));
    }
}

#[stack_test]
async fn the_ends_of_earlier_versions_are_refunded(world: Arc<World>) {
    for version in VERSIONS {
        for end in ["compensate", "ended_execution"] {
            let (account, handle, run_id) = (world.account(5).await, world.handle("old.end"), new_run());
            let payloads = Payloads::of(version, &account, &run_id, &handle).await;
            world.invoke("admit", &payloads.get("admit")).await.unwrap();
            assert_eq!(account.balance().await, 4);
            let payload = payloads.get(end);
            let payload = if end == "compensate" { payload } else { message(&payload) };
            let outcome = world.invoke("compensate", &payload).await.unwrap();
            assert!(outcome["batchItemFailures"].as_array().is_none_or(Vec::is_empty), "{end}: {outcome}");
            account.assert_refund_recorded(&run_id, 1, 5).await;
        }
    }
}

#[stack_test]
async fn groups_of_earlier_versions_are_started(world: Arc<World>) {
    for version in VERSIONS {
        let (account, handle, run_id) = (world.account(5).await, world.handle("old.group"), new_run());
        let payloads = Payloads::of(version, &account, &run_id, &handle).await;
        let group = payloads.get("bulk_group");
        let sql = "INSERT INTO analyses (run_id, account_id, business_profile_id, username, analysis_type, status, batch_id)
                   VALUES ($1, $2::text::uuid, $3::text::uuid, $4, 'light', 'pending', $5)";
        let batch = group["batch_id"].as_str().unwrap();
        world.db.rows(sql, &[&run_id, &account.id, &account.business_profile_id, &handle, &batch]).await;
        let outcome = world.invoke("bulk-groups", &message(&group)).await.unwrap();
        assert_eq!(outcome["batchItemFailures"], json!([]), "{outcome}");
        assert_eq!(account.ended(&run_id).await.status(), "completed");
    }
}
