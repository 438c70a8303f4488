//! `Idempotency-Key` on `POST /api/leads/analyze`.

use std::sync::Arc;

use futures::future::join_all;

use crate::harness::{Account, Answer, World, json, stack_test};

impl Account {
    /// Requests a LIGHT analysis with a key.
    async fn analyze_once(&self, key: &str, handle: &str) -> (Answer, String) {
        let body = json!({ "username": handle, "businessProfileId": self.business_profile_id, "analysisType": "light" });
        let request = self.request_to("POST", "/api/leads/analyze").header("Idempotency-Key", key).json(&body);
        self.world.send_for_text(request).await
    }
}

#[stack_test]
async fn a_repeat_gets_the_first_response_word_for_word(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("repeated");
    let (first, text) = account.analyze_once("key-1", &handle).await;
    let run_id = first.data(202)["run_id"].as_str().unwrap().to_owned();
    let (again, repeated) = account.analyze_once("key-1", &handle).await;
    assert_eq!((again.status, repeated), (202, text.clone()));
    assert_eq!(account.ended(&run_id).await.status(), "completed");
    // The same after the run has ended.
    let (last, repeated) = account.analyze_once("key-1", &handle).await;
    assert_eq!((last.status, repeated), (202, text));
    assert_eq!((account.runs().await, account.balance().await), (1, 4));
    // Another key starts another run.
    let (other, _) = account.analyze_once("key-2", &handle).await;
    let other = other.data(202)["run_id"].as_str().unwrap().to_owned();
    assert_ne!(other, run_id);
    account.ended(&other).await;
    assert_eq!(account.balance().await, 3);
}

#[stack_test]
async fn concurrent_repeats_start_one_run(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("twins");
    let all = join_all((0..10).map(|_| account.analyze_once("same", &handle))).await;
    let run_id = all[0].0.body["data"]["run_id"].as_str().unwrap().to_owned();
    for (answer, text) in &all {
        assert_eq!((answer.status, text), (202, &all[0].1));
    }
    assert_eq!(account.ended(&run_id).await.status(), "completed");
    assert_eq!((account.runs().await, account.balance().await), (1, 4));
    // They count as one analysis.
    assert_eq!(account.counted("analyses").await, 1);
}

#[stack_test]
async fn a_key_stands_for_one_request_of_one_user(world: Arc<World>) {
    let account = world.account(5).await;
    let (first, _) = account.analyze_once("mine", &world.handle("keyed")).await;
    let run_id = first.data(202)["run_id"].as_str().unwrap().to_owned();
    let (other, _) = account.analyze_once("mine", &world.handle("keyed")).await;
    other.problem(422, "IDEMPOTENCY_KEY_REUSED");
    account.ended(&run_id).await;
    assert_eq!((account.runs().await, account.balance().await), (1, 4));
    let other = world.account(5).await;
    let (theirs, _) = other.analyze_once("mine", &world.handle("keyed")).await;
    let theirs = theirs.data(202)["run_id"].as_str().unwrap().to_owned();
    assert_ne!(theirs, run_id);
    other.ended(&theirs).await;
}

#[stack_test]
async fn a_repeat_starts_the_run_of_a_process_that_died(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("halted");
    // A process that dies between claim and start leaves the key with its run id, and no run. Copied from a successful request of another
    // account.
    let other = world.account(5).await;
    let (answer, _) = other.analyze_once("halted", &world.handle("model")).await;
    let model = answer.data(202)["run_id"].as_str().unwrap().to_owned();
    other.ended(&model).await;
    let body = json!({ "username": handle, "businessProfileId": account.business_profile_id, "analysisType": "light" }).to_string();
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let sql = "INSERT INTO idempotency_keys (account_id, user_id, key, request_hash, work_id, answer)
               SELECT $1::text::uuid, $2::text::uuid, 'halted', encode(sha256(convert_to('POST ' || $3 || chr(10) || $4, 'UTF8')), 'hex'), $5,
                      replace(answer, $6, $5) FROM idempotency_keys WHERE account_id = $7::text::uuid AND key = 'halted'";
    // The path as API Gateway passes it to the function.
    let path = "/api/leads/analyze";
    world.db.rows(sql, &[&account.id, &account.owner().await, &path, &body, &run_id, &model, &other.id]).await;
    let (repeated, _) = account.analyze_once("halted", &handle).await;
    assert_eq!(repeated.data(202)["run_id"], json!(run_id));
    assert_eq!(account.ended(&run_id).await.status(), "completed");
    assert_eq!((account.runs().await, account.balance().await), (1, 4));
}

#[stack_test]
async fn a_refused_request_leaves_its_key_unused(world: Arc<World>) {
    let account = world.account(0).await;
    let handle = world.handle("refused");
    let (refused, _) = account.analyze_once("later", &handle).await;
    refused.problem(402, "INSUFFICIENT_CREDITS");
    world.db.rows("SELECT grant_credits($1::text::uuid, 1, 'admin_grant', 'top-up', 'Test')", &[&account.id]).await;
    let (accepted, _) = account.analyze_once("later", &handle).await;
    let run_id = accepted.data(202)["run_id"].as_str().unwrap().to_owned();
    assert_eq!(account.ended(&run_id).await.status(), "completed");
}

/// A stored key may hold something that the endpoint did not write. It must cause neither a 5xx nor a full disk.
#[stack_test]
async fn a_stored_response_that_the_endpoint_did_not_write_is_not_replayed(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("forged");
    let body = json!({ "username": handle, "businessProfileId": account.business_profile_id, "analysisType": "light" }).to_string();
    let claims = json!({ "sub": account.owner().await, "role": "authenticated" }).to_string();
    let user = world.db.connect().await;
    user.execute("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
    user.batch_execute("SET ROLE oslira_api").await.unwrap();
    let claim = "SELECT claim_idempotency_key($1::text::uuid, $2, encode(sha256(convert_to($3, 'UTF8')), 'hex'), $4, $5)";
    let request = format!("POST /api/leads/analyze\n{body}");
    let runs = [(); 2].map(|()| format!("run_{}", uuid::Uuid::now_v7().simple()));
    let forged = json!({ "status": 500, "data": {}, "meta": {} }).to_string();
    for (key, work, answer) in [("garbage", &*runs[0], "x"), ("status", &runs[1], &forged), ("work", "no run", &forged)] {
        user.query(claim, &[&account.id, &key, &request, &work, &answer]).await.unwrap();
        let (answer, _) = account.analyze_once(key, &handle).await;
        answer.problem(422, "IDEMPOTENCY_KEY_REUSED");
    }
    for run in &runs {
        account.ended(run).await;
    }

    // Responses of the maximum size, of text that compresses badly.
    let text: String = (0..60).map(|_| (0..16).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect::<String>().repeat(4)).collect();
    let mut kept = 0;
    let refused = loop {
        match user.query(claim, &[&account.id, &format!("full-{kept}"), &"request", &"work", &text]).await {
            Ok(_) => kept += 1,
            Err(error) => break error.as_db_error().unwrap().code().code().to_owned(),
        }
    };
    assert_eq!(refused, "OS429");
    assert!((100..1500).contains(&kept), "{kept} answers of {} KB", text.len() / 1024);
    let (answer, _) = account.analyze_once("new", &handle).await;
    answer.problem(429, "RATE_LIMIT_EXCEEDED");
}

#[stack_test]
async fn a_malformed_key_is_a_fault(world: Arc<World>) {
    let account = world.account(5).await;
    for key in [String::new(), "x".repeat(256)] {
        let (answer, _) = account.analyze_once(&key, "anybody").await;
        assert_eq!(answer.faults(), [("Idempotency-Key".to_owned(), "invalid".to_owned())], "{key:?}");
    }
    assert_eq!(account.runs().await, 0);
}

/// An execution is named after its run. If a key could name a run that exists, its start would take the name, and the run would never start.
#[stack_test]
async fn a_key_cannot_name_a_run_that_exists(world: Arc<World>) {
    let (account, other) = (world.account(5).await, world.account(5).await);
    let run = account.start(&world.handle("named"), "light").await;
    account.ended(&run).await;
    for claimant in [&account, &other] {
        let claims = json!({ "sub": claimant.owner().await, "role": "authenticated" }).to_string();
        let user = world.db.connect().await;
        user.execute("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
        user.batch_execute("SET ROLE oslira_api").await.unwrap();
        let claim = "SELECT claim_idempotency_key($1::text::uuid, 'taken', repeat('0', 64), $2, NULL)";
        let error = user.query(claim, &[&claimant.id, &run]).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().code().code(), "OS409");
    }
}
