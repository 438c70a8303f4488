//! Runs that end without a result: each is charged and refunded exactly once and says why, and its vendor costs are recorded.

use std::sync::Arc;

use crate::harness::{Account, Ended, Value, World, json, stack_test};

async fn actor_runs(world: &World, handle: &str) -> usize {
    world.calls("apify", handle).await.iter().filter(|call| call["op"] == "start").count()
}

async fn questions(world: &World, vendor: &str, handle: &str) -> usize {
    world.calls(vendor, handle).await.len()
}

/// Asserts that the costs recorded for a run are what vendors billed for its handle.
async fn assert_costs_are_recorded(account: &Account, ended: &Ended, handle: &str) {
    let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE run_id = $1";
    let recorded: Option<i64> = account.world.db.value(sql, &[&ended.run_id]).await;
    assert_eq!(recorded, Some(account.world.bill(handle).await), "{handle}");
}

#[stack_test]
async fn private_missing_and_blocked_profiles_are_refunded(world: Arc<World>) {
    let cases = [("private", "PROFILE_PRIVATE", 1), ("missing", "PROFILE_NOT_FOUND", 1), ("blocked", "SCRAPE_FAILED", 4)];
    let runs = cases.map(|(beginning, code, starts)| {
        let world = world.clone();
        async move {
            let account = world.account(9).await;
            let handle = world.handle(beginning);
            let ended = account.run(&handle, "deep").await;
            account.assert_refunded(&ended, code, 3, 9).await;
            assert_eq!(actor_runs(&world, &handle).await, starts, "{beginning}");
            assert_costs_are_recorded(&account, &ended, &handle).await;
            let problem = account.result(&ended.run_id).await.problem(409, "ANALYSIS_FAILED");
            assert_eq!((&problem["details"]["code"], &problem["details"]["credits_refunded"]), (&json!(code), &json!(3)));
            let leads: Option<i64> = world.db.value("SELECT count(*) FROM leads WHERE username = $1", &[&handle]).await;
            assert_eq!(leads, Some(0));
        }
    });
    futures::future::join_all(runs).await;
}

/// The Actor says "not found", or returns a part of the profile. Neither is a missing profile, and neither is analyzed.
#[stack_test]
async fn a_restricted_profile_has_a_code_of_its_own(world: Arc<World>) {
    for beginning in ["restricted", "restricted_partial"] {
        let account = world.account(9).await;
        let handle = world.handle(beginning);
        let ended = account.run(&handle, "deep").await;
        account.assert_refunded(&ended, "PROFILE_RESTRICTED", 3, 9).await;
        assert_eq!((actor_runs(&world, &handle).await, questions(&world, "openai", &handle).await), (1, 0), "{beginning}");
        assert_costs_are_recorded(&account, &ended, &handle).await;
    }
}

#[stack_test]
async fn a_profile_whose_posts_do_not_come_is_fetched_once_more_and_then_refused(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("postless");
    let ended = account.run(&handle, "light").await;
    account.assert_refunded(&ended, "SCRAPE_FAILED", 1, 9).await;
    assert_eq!((actor_runs(&world, &handle).await, questions(&world, "openai", &handle).await), (2, 0));
    assert_costs_are_recorded(&account, &ended, &handle).await;
    assert_eq!(world.cached(&handle).await, None, "an entry without posts would serve other runs");
}

#[stack_test]
async fn what_an_unsuccessful_actor_run_found_is_used(world: Arc<World>) {
    for kind in ["run_failed", "run_timed_out"] {
        let account = world.account(9).await;
        let handle = world.handle("partial");
        world.fault("apify", &handle, Some(1), json!({ "kind": kind, "items": 1 })).await;
        let ended = account.run(&handle, "light").await;
        assert_eq!(ended.status(), "completed", "{kind}: {}", ended.progress);
        assert_eq!(actor_runs(&world, &handle).await, 1, "{kind}");
        assert_costs_are_recorded(&account, &ended, &handle).await;
    }
}

#[stack_test]
async fn an_actor_that_fails_four_times_is_refunded(world: Arc<World>) {
    let runs = ["run_failed", "run_timed_out", "run_aborted", "empty_dataset"].map(|kind| {
        let world = world.clone();
        async move {
            let account = world.account(9).await;
            let handle = world.handle("actor");
            world.fault("apify", &handle, None, json!({ "kind": kind })).await;
            let ended = account.run(&handle, "light").await;
            account.assert_refunded(&ended, "SCRAPE_FAILED", 1, 9).await;
            assert_eq!(actor_runs(&world, &handle).await, 4, "{kind}");
            assert_costs_are_recorded(&account, &ended, &handle).await;
        }
    });
    futures::future::join_all(runs).await;
}

#[stack_test]
async fn an_actor_that_succeeds_at_the_third_attempt_is_paid(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("third");
    world.fault("apify", &handle, Some(2), json!({ "kind": "run_failed" })).await;
    let ended = account.run(&handle, "light").await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    assert_eq!((actor_runs(&world, &handle).await, account.entries(&ended.run_id).await), (3, vec![("analysis".to_owned(), -1)]));
    assert_costs_are_recorded(&account, &ended, &handle).await;
}

async fn fail_models(world: &World, handle: &str, openai: Value, anthropic: Value) {
    world.fault("openai", handle, None, openai).await;
    world.fault("anthropic", handle, None, anthropic).await;
}

#[stack_test]
async fn models_that_fail_on_every_provider_are_refunded(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("nomodel");
    let limited = json!({ "kind": "status", "status": 429, "retry_after": 1 });
    fail_models(&world, &handle, limited, json!({ "kind": "status", "status": 529 })).await;
    let ended = account.run(&handle, "xray").await;
    account.assert_refunded(&ended, "AI_FAILED", 5, 9).await;
    // Each of four questions was asked three times of both providers.
    assert_eq!((questions(&world, "openai", &handle).await, questions(&world, "anthropic", &handle).await), (12, 12));
    assert_costs_are_recorded(&account, &ended, &handle).await;
}

#[stack_test]
async fn hanging_models_are_refunded(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("hanging");
    fail_models(&world, &handle, json!({ "kind": "hang", "seconds": 60 }), json!({ "kind": "hang", "seconds": 60 })).await;
    let ended = account.run(&handle, "light").await;
    account.assert_refunded(&ended, "AI_FAILED", 1, 9).await;
    // What they cost is unknown and recorded as such.
    let sql = "SELECT count(*) FROM ai_usage_logs WHERE run_id = $1 AND status = 'timeout' AND provider <> 'apify' AND NOT cost_known";
    assert_eq!(world.db.value::<i64>(sql, &[&ended.run_id]).await, Some(6));
}

#[stack_test]
async fn unusable_answers_and_refusals_are_refunded(world: Arc<World>) {
    let cases = [
        ("schema_violation", "AI_INVALID_OUTPUT", [2, 2]),
        ("not_json", "AI_INVALID_OUTPUT", [2, 2]),
        ("max_tokens", "AI_INVALID_OUTPUT", [2, 2]),
        ("refusal", "AI_REFUSED", [1, 0]),
    ];
    let runs = cases.map(|(kind, code, asked)| {
        let world = world.clone();
        async move {
            let account = world.account(9).await;
            let handle = world.handle("unusable");
            fail_models(&world, &handle, json!({ "kind": kind }), json!({ "kind": kind })).await;
            let ended = account.run(&handle, "light").await;
            account.assert_refunded(&ended, code, 1, 9).await;
            assert_eq!([questions(&world, "openai", &handle).await, questions(&world, "anthropic", &handle).await], asked, "{kind}");
            assert_costs_are_recorded(&account, &ended, &handle).await;
        }
    });
    futures::future::join_all(runs).await;
    // A response of status 200 that failed: of what it was asked about, which no other model is asked, or for a while.
    for (code, outcome, asked) in [("invalid_prompt", "AI_REFUSED", [1, 0]), ("server_error", "completed", [1, 1])] {
        let account = world.account(9).await;
        let handle = world.handle("failed");
        world.fault("openai", &handle, None, json!({ "kind": "response_failed", "code": code })).await;
        let ended = account.run(&handle, "light").await;
        let error = ended.progress["error"]["code"].as_str().unwrap_or(ended.status()).to_owned();
        let questions = [questions(&world, "openai", &handle).await, questions(&world, "anthropic", &handle).await];
        assert_eq!((error.as_str(), questions), (outcome, asked), "{}", ended.progress);
    }
    // One provider only: the other one answers.
    let account = world.account(9).await;
    let handle = world.handle("other");
    world.fault("openai", &handle, None, json!({ "kind": "not_json" })).await;
    let ended = account.run(&handle, "light").await;
    let asked = [questions(&world, "openai", &handle).await, questions(&world, "anthropic", &handle).await];
    assert_eq!((ended.status(), asked), ("completed", [2, 1]));
    assert_costs_are_recorded(&account, &ended, &handle).await;
    // Once only: the second answer is good, and both are paid for.
    let account = world.account(9).await;
    let handle = world.handle("once");
    world.fault("openai", &handle, Some(1), json!({ "kind": "schema_violation" })).await;
    let ended = account.run(&handle, "light").await;
    assert_eq!((ended.status(), questions(&world, "openai", &handle).await), ("completed", 2));
    assert_costs_are_recorded(&account, &ended, &handle).await;
}

#[stack_test]
async fn a_vendor_without_quota_is_not_retried(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("quota");
    world.fault("apify", &handle, None, json!({ "kind": "status", "status": 402 })).await;
    let ended = account.run(&handle, "light").await;
    account.assert_refunded(&ended, "SCRAPE_FAILED", 1, 9).await;
    assert_eq!(world.calls("apify", &handle).await.len(), 1);
}

#[stack_test]
async fn an_apify_that_fails_in_any_way_is_refunded(world: Arc<World>) {
    let failing = json!({ "kind": "status", "status": 500 });
    let cases = [
        ("start", failing.clone(), 4),
        ("start", json!({ "kind": "disconnect" }), 4),
        ("start", json!({ "kind": "truncated_json" }), 4),
        // A hanging start takes half a minute: once is enough.
        ("start", json!({ "kind": "hang", "seconds": 60 }), 4),
        ("poll", json!({ "kind": "truncated_json" }), 1),
        ("items", failing.clone(), 1),
        ("items", json!({ "kind": "disconnect" }), 1),
    ];
    let runs = cases.map(|(op, fault, starts)| {
        let (world, failing) = (world.clone(), failing.clone());
        async move {
            let account = world.account(9).await;
            let handle = world.handle("failing");
            let hangs = fault["kind"] == "hang";
            let mut rule = json!({ "vendor": "apify", "op": op, "match": handle, "fault": fault });
            if hangs {
                rule["times"] = json!(1);
            }
            world.fault_rule(rule).await;
            if hangs {
                world.fault_rule(json!({ "vendor": "apify", "op": op, "match": handle, "fault": failing })).await;
            }
            let ended = account.run(&handle, "light").await;
            account.assert_refunded(&ended, "SCRAPE_FAILED", 1, 9).await;
            assert_eq!(actor_runs(&world, &handle).await, starts, "{op} {fault}");
            if op == "start" {
                // Whether an Actor ran is unknown; that it was started is recorded.
                let sql = "SELECT count(*) FROM ai_usage_logs WHERE run_id = $1 AND provider = 'apify' AND status = 'timeout' AND response_id IS NULL";
                assert_eq!(world.db.value::<i64>(sql, &[&ended.run_id]).await, Some(4), "{fault}");
            }
        }
    });
    futures::future::join_all(runs).await;
}

#[stack_test]
async fn a_busy_vendor_is_waited_for(world: Arc<World>) {
    let runs = [(402, "actor-memory-limit-exceeded"), (429, "rate-limit-exceeded")].map(|(status, error_type)| {
        let world = world.clone();
        async move {
            let account = world.account(9).await;
            let handle = world.handle("busy");
            // More often than a failure is retried.
            let busy = json!({ "kind": "status", "status": status, "error_type": error_type });
            world.fault_rule(json!({ "vendor": "apify", "op": "start", "match": handle, "times": 5, "fault": busy })).await;
            let ended = account.run(&handle, "light").await;
            assert_eq!((ended.status(), actor_runs(&world, &handle).await), ("completed", 6), "{}", ended.progress);
            assert_costs_are_recorded(&account, &ended, &handle).await;
        }
    });
    futures::future::join_all(runs).await;
}

#[stack_test]
async fn broken_answers_of_models_are_refunded_unless_one_is_complete(world: Arc<World>) {
    let broken = || json!({ "kind": "truncated_json" });
    let account = world.account(9).await;
    let handle = world.handle("broken");
    fail_models(&world, &handle, broken(), broken()).await;
    let ended = account.run(&handle, "light").await;
    account.assert_refunded(&ended, "AI_FAILED", 1, 9).await;
    assert_eq!((questions(&world, "openai", &handle).await, questions(&world, "anthropic", &handle).await), (3, 3));
    let handle = world.handle("broken");
    world.fault("openai", &handle, None, broken()).await;
    let ended = account.run(&handle, "light").await;
    assert_eq!((ended.status(), questions(&world, "anthropic", &handle).await), ("completed", 1), "{}", ended.progress);
}

#[stack_test]
async fn a_refused_question_keeps_the_others_costs(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("refused");
    world.fault("openai", &handle, Some(1), json!({ "kind": "refusal" })).await;
    world.slow_model("openai", &handle, 1000).await;
    let ended = account.run(&handle, "xray").await;
    account.assert_refunded(&ended, "AI_REFUSED", 5, 9).await;
    // The three others were waited for and recorded, and none was asked again.
    assert_eq!((questions(&world, "openai", &handle).await, questions(&world, "anthropic", &handle).await), (4, 0));
    assert_costs_are_recorded(&account, &ended, &handle).await;
    let sql = "SELECT count(*) FROM ai_usage_logs WHERE run_id = $1 AND provider = 'openai'";
    assert_eq!(world.db.value::<i64>(sql, &[&ended.run_id]).await, Some(4));
}
