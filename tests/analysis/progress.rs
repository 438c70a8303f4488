//! Following a run from its acceptance to its end.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use oslira_domain::Step;
use tokio_postgres::Client;

use crate::harness::{Account, Value, World, json, stack_test, until};

impl Account {
    /// Holds the account's balance, so that the admission of its runs waits: they are accepted and nothing more.
    pub(super) async fn lock_balance(&self) -> Client {
        let client = self.world.db.connect().await;
        client.batch_execute("BEGIN").await.expect("a transaction");
        let sql = "SELECT 1 FROM credit_balances WHERE account_id = $1::text::uuid FOR UPDATE";
        client.query_one(sql, &[&self.id]).await.expect("the balance");
        client
    }
}

/// Number, name, label and percentage of the steps in a progress answer.
fn plan(progress: &Value) -> Vec<(u64, &str, &str, u64)> {
    let steps = progress["steps"].as_array().expect("steps");
    let number = |step: &Value, field: &str| step[field].as_u64().expect("a number");
    let rows = steps.iter().map(|step| {
        let (name, label) = (step["name"].as_str().expect("a name"), step["label"].as_str().expect("a label"));
        (number(step, "number"), name, label, number(step, "percent"))
    });
    rows.collect()
}

fn statuses(progress: &Value) -> Vec<&str> {
    progress["steps"].as_array().expect("steps").iter().map(|step| step["status"].as_str().unwrap_or("?")).collect()
}

#[stack_test]
async fn progress_climbs_from_0_to_100_through_all_twelve_steps(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("followed");
    world.slow_scrape(&handle, 2000).await;
    world.slow_model("openai", &handle, 1500).await;
    let balance = account.lock_balance().await;
    let run_id = account.start(&handle, "deep").await;
    let mut seen = vec![account.progress(&run_id).await];
    balance.batch_execute("COMMIT").await.expect("the lock is released");
    while seen.last().is_some_and(|last| !["completed", "failed"].contains(&last["status"].as_str().unwrap_or("failed"))) {
        seen.push(account.progress(&run_id).await);
        assert!(seen.len() < 290, "the run does not end: {}", seen[seen.len() - 1]);
        tokio::time::sleep(Duration::from_millis(120)).await;
    }

    let expected: Vec<_> =
        Step::ALL.iter().map(|step| (u64::from(step.number()), step.as_str(), step.label(), u64::from(step.percent()))).collect();
    let rank = |progress: &Value| ["pending", "processing", "completed"].iter().position(|status| progress["status"] == *status);
    for progress in &seen {
        assert_eq!(plan(progress), expected);
        assert_eq!(
            (&progress["run_id"], &progress["username"], &progress["analysis_type"], &progress["total_steps"], &progress["error"]),
            (&json!(run_id), &json!(handle), &json!("deep"), &json!(12), &Value::Null)
        );
        let current = usize::try_from(progress["current_step_number"].as_u64().expect("a number")).expect("a small number");
        assert_eq!(progress["current_step"], json!(expected[current - 1].1));
        let statuses = statuses(progress);
        assert!(statuses[..current - 1].iter().all(|status| *status == "completed"), "{progress}");
        assert!(statuses[current..].iter().all(|status| *status == "pending"), "{progress}");
        assert!(["running", "completed"].contains(&statuses[current - 1]), "{progress}");
        assert!(progress["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    for pair in seen.windows(2) {
        let number = |progress: &Value, field: &str| progress[field].as_u64().expect("a number");
        for field in ["progress", "current_step_number"] {
            assert!(number(&pair[0], field) <= number(&pair[1], field), "{field} falls: {} {}", pair[0], pair[1]);
        }
        assert!(rank(&pair[0]).is_some() && rank(&pair[0]) <= rank(&pair[1]), "{} {}", pair[0]["status"], pair[1]["status"]);
    }
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    assert_eq!((&first["status"], &first["progress"], &first["current_step"]), (&json!("pending"), &json!(0), &json!("generate_run_id")));
    assert_eq!((&last["status"], &last["progress"], &last["current_step"]), (&json!("completed"), &json!(100), &json!("complete")));
    assert_eq!(statuses(last), ["completed"; 12]);
    let percentages: Vec<_> = seen.iter().map(|progress| progress["progress"].as_u64().expect("a number")).collect();
    for between in [30, 50] {
        assert!(percentages.contains(&between), "a second and more at {between} %: {percentages:?}");
    }
    assert_timings(last);
    let result = account.result(&run_id).await.data(200);
    for field in ["overall_score", "niche_fit_score", "engagement_score", "confidence_level", "summary_text"] {
        assert_eq!(last["result"][field], result[field], "{field}");
    }
}

/// Every step has its own time, in order, and those that wait for vendors have waited.
fn assert_timings(progress: &Value) {
    let steps = progress["steps"].as_array().expect("steps");
    let duration = |step: usize| steps[step - 1]["duration_ms"].as_f64().expect("a duration");
    let started: Vec<jiff::Timestamp> =
        steps.iter().map(|step| step["started_at"].as_str().expect("a time").parse().expect("a time")).collect();
    assert!(started.is_sorted(), "{progress}");
    assert!((1..=12).all(|step| duration(step) >= 0.0), "{progress}");
    assert!(duration(7) >= 2000.0 && duration(9) >= 1500.0, "{progress}");
    let at = |field: &str| progress[field].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert!(
        at("started_at") <= started[0]
            && started[11] <= at("completed_at").checked_add(jiff::SignedDuration::from_millis(5)).expect("a time")
    );
}

#[stack_test]
async fn a_cached_run_skips_the_scrape_in_sight(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("skipping");
    let first = account.run(&handle, "light").await;
    assert_eq!(statuses(&first.progress), ["completed"; 12]);
    let second = account.run(&handle, "light").await;
    let mut expected = ["completed"; 12];
    expected[6..8].fill("skipped");
    assert_eq!(statuses(&second.progress), expected);
    assert_eq!((&second.progress["status"], &second.progress["progress"]), (&json!("completed"), &json!(100)));
    for step in second.progress["steps"].as_array().expect("steps") {
        assert_eq!(step["duration_ms"].is_null() && step["started_at"].is_null(), step["status"] == "skipped", "{step}");
    }
    assert_eq!(world.calls("apify", &handle).await.iter().filter(|call| call["op"] == "start").count(), 1);
}

#[stack_test]
async fn a_result_asked_for_too_early_says_where_the_run_is(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("early");
    world.slow_scrape(&handle, 60_000).await;
    let balance = account.lock_balance().await;
    let run_id = account.start(&handle, "light").await;
    let expect = async |status: &str| {
        let answer = account.result(&run_id).await;
        assert_eq!(answer.header("retry-after"), Some("1"));
        let details = answer.problem(425, "NOT_COMPLETE")["details"].clone();
        let expected = json!({ "run_id": run_id, "status": status, "progress_url": format!("/api/analysis/{run_id}/progress") });
        assert_eq!(details, expected);
    };
    expect("pending").await;
    balance.batch_execute("COMMIT").await.expect("the lock is released");
    account.charged(&run_id).await;
    expect("processing").await;
    let cancelled = account.cancel(&run_id).await.data(200);
    assert_eq!((&cancelled["status"], &cancelled["credits_refunded"]), (&json!("cancelled"), &json!(1)));
    let problem = account.result(&run_id).await.problem(409, "ANALYSIS_CANCELLED");
    assert_eq!(problem["details"], json!({ "run_id": run_id, "credits_refunded": 1 }));
    account.assert_refund_recorded(&run_id, 1, 5).await;
}

#[stack_test]
async fn postgresql_answers_when_the_progress_item_is_gone(world: Arc<World>) {
    let account = world.account(5).await;
    let completed = account.run(&world.handle("expiring"), "light").await;
    let failed = account.run(&world.handle("missing"), "light").await;
    assert_eq!((completed.status(), failed.status(), failed.error_code()), ("completed", "failed", "PROFILE_NOT_FOUND"));
    let table = world.stack.outputs()["ProgressTableName"].clone();
    let keep = |progress: &Value| {
        let fields = ["run_id", "username", "status", "started_at", "completed_at", "error", "result", "message"];
        fields.map(|field| progress[field].clone())
    };
    for ended in [&completed, &failed] {
        let before = account.progress(&ended.run_id).await;
        let key = AttributeValue::S(ended.run_id.clone());
        // Past its time, though DynamoDB takes up to days to delete it.
        let past = world.dynamodb.update_item().table_name(&table).key("run_id", key.clone()).update_expression("SET expires_at = :past");
        let past =
            past.condition_expression("attribute_exists(run_id)").expression_attribute_values(":past", AttributeValue::N("1".to_owned()));
        past.send().await.expect("the item is there");
        assert_eq!(keep(&account.progress(&ended.run_id).await), keep(&before));
        world.dynamodb.delete_item().table_name(&table).key("run_id", key).send().await.expect("the item is deleted");
        let after = account.progress(&ended.run_id).await;
        assert_eq!(keep(&after), keep(&before));
        assert_eq!(statuses(&after), statuses(&before), "{}", ended.run_id);
        assert_eq!(after["progress"], before["progress"], "{after} {before}");
    }
    assert_eq!(account.progress(&completed.run_id).await["progress"], json!(100));
    account.result(&completed.run_id).await.data(200);
    account.cancel(&completed.run_id).await.problem(409, "ALREADY_COMPLETE");
}

#[stack_test]
async fn a_cancelled_run_stays_where_it_was_when_its_progress_item_is_gone(world: Arc<World>) {
    let account = world.account(9).await;
    let table = world.stack.outputs()["ProgressTableName"].clone();
    let forget = async |run_id: &str| {
        let key = AttributeValue::S(run_id.to_owned());
        world.dynamodb.delete_item().table_name(&table).key("run_id", key).send().await.expect("the item is deleted");
    };
    // Two of three calls do not answer: 60 %.
    let handle = world.handle("stopped");
    world.fault("openai", &handle, Some(2), json!({ "kind": "hang", "seconds": 60 })).await;
    world.slow_model("anthropic", &handle, 2900).await;
    let asked = account.start(&handle, "deep").await;
    until("60 %", Duration::from_mins(1), || async { (account.progress(&asked).await["progress"] == json!(60)).then_some(()) }).await;
    // While the profile is fetched: 30 %.
    let handle = world.handle("stopped");
    world.slow_scrape(&handle, 60_000).await;
    let scraping = account.start(&handle, "light").await;
    until("an Actor run", Duration::from_mins(1), || async {
        world.calls("apify", &handle).await.into_iter().find(|call| call["op"] == "poll")
    })
    .await;
    for (run_id, percent, step) in [(asked, 60, "analyze_profile"), (scraping, 30, "scrape_profile")] {
        account.cancel(&run_id).await.data(200);
        let before = account.progress(&run_id).await;
        forget(&run_id).await;
        let after = account.progress(&run_id).await;
        for progress in [&before, &after] {
            assert_eq!(
                (&progress["progress"], &progress["current_step"], &progress["status"]),
                (&json!(percent), &json!(step), &json!("cancelled"))
            );
        }
    }
    // The database's own arithmetic is the domain's.
    for tier in oslira_domain::Tier::ALL {
        for answered in 1..=tier.calls().len() {
            let sql = "SELECT answered_percent($1, jsonb_object_agg(n, true))::int4 FROM generate_series(1, $2::int4) n";
            let percent: Option<i32> = world.db.value(sql, &[&tier.as_str(), &i32::try_from(answered).expect("a small number")]).await;
            assert_eq!(percent, Some(i32::from(oslira_domain::step::ai_percent(answered, tier.calls().len()))), "{tier} {answered}");
        }
    }
}

#[stack_test]
async fn browsers_of_the_app_may_ask_and_others_may_not(world: Arc<World>) {
    const APP: &str = "http://localhost:5173";
    let account = world.account(5).await;
    let preflight = |origin: &'static str| {
        let request = world.http.request(reqwest::Method::OPTIONS, world.url("/api/leads/analyze")).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        world.send(request.header("access-control-request-headers", "authorization,content-type,x-account-id"))
    };
    let allowed = preflight(APP).await;
    assert!([200, 204].contains(&allowed.status), "{allowed:?}");
    assert_eq!(allowed.header("access-control-allow-origin"), Some(APP), "{allowed:?}");
    let list = |name: &str| allowed.header(name).unwrap_or_default().to_lowercase();
    assert!(list("access-control-allow-methods").contains("post"), "{allowed:?}");
    for header in ["authorization", "content-type", "x-account-id", "idempotency-key"] {
        assert!(list("access-control-allow-headers").contains(header), "{header}: {allowed:?}");
    }
    assert_eq!(allowed.header("access-control-max-age"), Some("86400"));
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), None);

    let run_id = account.start(&world.handle("browser"), "light").await;
    let path = world.url(&format!("/api/analysis/{run_id}/progress"));
    let answers = [
        world.send(world.http.get(&path).bearer_auth(&account.token).header("origin", APP)).await,
        // A refusal that the browser hides would look like a lost network.
        world.send(world.http.get(&path).header("origin", APP)).await,
    ];
    assert_eq!((answers[0].status, answers[1].status), (200, 401));
    for answer in answers {
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_lowercase();
        assert!(["retry-after", "ratelimit", "x-request-id"].iter().all(|name| exposed.contains(name)), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-request-id"), answer.body["meta"]["requestId"].as_str());
    }
    let foreign = world.send(world.http.get(&path).bearer_auth(&account.token).header("origin", "https://evil.example")).await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    account.ended(&run_id).await;
}

#[stack_test(alone)]
async fn a_poll_does_not_wait_for_a_database_that_hangs(world: Arc<World>) {
    let account = world.account(5).await;
    let run_id = account.run(&world.handle("hanging"), "light").await.run_id;
    let holder = world.db.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE analyses IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let batch = format!("batch_{}", uuid::Uuid::now_v7().simple());
    for path in [format!("/api/analysis/{run_id}/progress"), format!("/api/leads/analyze/bulk/{batch}/progress")] {
        let started = std::time::Instant::now();
        account.get(&path).await.problem(503, "SERVICE_UNAVAILABLE");
        assert!(started.elapsed() < Duration::from_secs(7), "{path}: {:?}", started.elapsed());
    }
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(account.progress(&run_id).await["status"], "completed");
}
