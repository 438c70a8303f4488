//! The end of each handle of a batch, with a reason of its own.

use std::sync::Arc;

use super::Batch;
use crate::harness::{Queue, World, json, stack_test};

#[stack_test]
async fn every_handle_ends_with_its_own_reason(world: Arc<World>) {
    let account = world.account(20).await;
    let (good, private, missing, blocked, broken) =
        (world.handle("reason"), world.handle("private"), world.handle("missing"), world.handle("blocked"), world.handle("reason_x"));
    world.fault("openai", &broken, None, json!({ "kind": "refusal" })).await;
    world.fault("anthropic", &broken, None, json!({ "kind": "refusal" })).await;
    let handles = [&good, &private, &missing, &blocked, &broken].map(Clone::clone);
    let requested = [handles.to_vec(), vec![format!("@{}", good.to_uppercase()), "no handle!".to_owned()]].concat();
    let batch = account.start_batch(&requested, "light").await;
    let started = &batch.started;
    assert_eq!((&started["total_count"], &started["queued"], &started["failed"]), (&json!(7), &json!(5), &json!(2)), "{started}");
    assert_eq!(started["analyses"][5]["error"]["code"], "DUPLICATE_USERNAME");
    assert_eq!(
        started["analyses"][6],
        json!({ "username": "no handle!", "run_id": null, "status": "failed", "progress_url": null,
        "error": { "code": "INVALID_USERNAME", "message": started["analyses"][6]["error"]["message"] } })
    );
    let progress = batch.ended().await;
    let endings = Batch::endings(&progress);
    let expected = [
        (&good, "completed"),
        (&private, "PROFILE_PRIVATE"),
        (&missing, "PROFILE_NOT_FOUND"),
        (&blocked, "SCRAPE_FAILED"),
        (&broken, "AI_REFUSED"),
    ];
    assert_eq!(endings, expected.into_iter().map(|(handle, end)| (handle.clone(), end.to_owned())).collect());
    assert_eq!(progress["status_counts"], json!({ "pending": 0, "processing": 0, "completed": 1, "failed": 4, "cancelled": 0 }));
    // Handles that the group's Actor run decided were never charged; the others were refunded.
    assert_eq!((account.count_entries("analysis").await, account.count_entries("refund").await), (3, 2));
    assert_eq!(account.balance().await, 19);
    let runs = batch.runs();
    assert!(account.entries(&runs[&private]).await.is_empty() && account.entries(&runs[&missing]).await.is_empty());
    // One Actor run for the group, and more only for the handle that Instagram did not serve.
    assert_eq!(world.actor_runs(&private).await.len(), 1);
    assert!(world.actor_runs(&blocked).await.len() > 1);
    let billed = world.bill_of("apify", &blocked).await;
    assert_eq!(account.recorded_cost("apify").await, billed);
}

#[stack_test]
async fn addresses_in_a_batch_name_their_owner_or_are_refused(world: Arc<World>) {
    let account = world.account(9).await;
    let (handle, restricted) = (world.handle("owner"), world.handle("restricted"));
    let requested = [
        restricted.clone(),
        format!("https://www.instagram.com/stories/{handle}/3412/"),
        "https://instagram.com/reel/CxAbCdEfGhI/".to_owned(),
    ];
    let batch = account.start_batch(&requested, "light").await;
    let analyses = &batch.started["analyses"];
    assert_eq!((&analyses[1]["username"], &analyses[2]["error"]["code"]), (&json!(handle), &json!("INVALID_USERNAME")), "{analyses}");
    let message = analyses[2]["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("not the address of a reel"), "{message}");
    let endings = Batch::endings(&batch.ended().await);
    assert_eq!((endings[&handle].as_str(), endings[&restricted].as_str()), ("completed", "PROFILE_RESTRICTED"));
    assert_eq!(account.balance().await, 8);
}

#[stack_test]
async fn credits_for_half_complete_half(world: Arc<World>) {
    let account = world.account(11).await;
    let batch = account.start_batch(&world.handles("half", 20), "light").await;
    assert_eq!((&batch.started["queued"], &batch.started["affordable"]), (&json!(20), &json!(11)), "{}", batch.started);
    let progress = batch.ended().await;
    let endings = Batch::endings(&progress);
    let count = |end: &str| endings.values().filter(|ended| *ended == end).count();
    assert_eq!((count("completed"), count("INSUFFICIENT_CREDITS")), (11, 9), "{endings:?}");
    assert_eq!((account.count_entries("analysis").await, account.balance().await), (11, 0));
    account.bulk(&world.handles("half", 2), "light").await.problem(402, "INSUFFICIENT_CREDITS");
}

#[stack_test]
async fn one_credit_does_not_buy_a_hundred_scrapes(world: Arc<World>) {
    let account = world.account(1).await;
    let handles = world.handles("greedy", 60);
    let batch = account.start_batch(&handles, "light").await;
    let endings = Batch::endings(&batch.ended().await);
    let count = |end: &str| endings.values().filter(|ended| *ended == end).count();
    assert_eq!((count("completed"), count("INSUFFICIENT_CREDITS")), (1, 59), "{endings:?}");
    let mut scraped = 0;
    for handle in &handles {
        scraped += world.calls("apify", handle).await.iter().filter(|call| call["op"] == "start").count();
    }
    // Twice as many as the credit pays for, and one group more.
    assert!((1..=12).contains(&scraped), "{scraped}");
}

#[stack_test]
async fn a_mixed_batch_on_half_of_its_credits_adds_up(world: Arc<World>) {
    const CREDITS: i64 = 6;
    let account = world.account(u32::try_from(CREDITS).unwrap()).await;
    let (private, missing, blocked, broken) =
        (world.handle("private"), world.handle("missing"), world.handle("blocked"), world.handle("mixed_x"));
    world.fault("openai", &broken, None, json!({ "kind": "refusal" })).await;
    world.fault("anthropic", &broken, None, json!({ "kind": "refusal" })).await;
    let mut handles = world.handles("mixed", 10);
    handles.extend([&private, &missing, &blocked, &broken].map(Clone::clone));
    let requested = [handles.clone(), vec![format!("https://www.instagram.com/{}/", handles[0])]].concat();
    let batch = account.start_batch(&requested, "light").await;
    let started = &batch.started;
    assert_eq!((&started["queued"], &started["failed"], &started["affordable"]), (&json!(14), &json!(1), &json!(CREDITS)), "{started}");
    let progress = batch.ended().await;
    let endings = Batch::endings(&progress);
    assert_eq!(endings.len(), 14);
    let count = |end: &str| i64::try_from(endings.values().filter(|ended| *ended == end).count()).unwrap();
    assert_eq!((endings[&private].as_str(), endings[&missing].as_str()), ("PROFILE_PRIVATE", "PROFILE_NOT_FOUND"));
    // Which handles get the credits is a race. Each ends for its own reason or for missing credits.
    assert!(["SCRAPE_FAILED", "INSUFFICIENT_CREDITS"].contains(&endings[&blocked].as_str()), "{endings:?}");
    assert!(["AI_REFUSED", "INSUFFICIENT_CREDITS"].contains(&endings[&broken].as_str()), "{endings:?}");
    let good = handles[..10].iter().map(|handle| endings[handle].as_str());
    assert!(good.into_iter().all(|end| ["completed", "INSUFFICIENT_CREDITS"].contains(&end)), "{endings:?}");
    assert!((1..=CREDITS).contains(&count("completed")), "{endings:?}");
    // The charges equal the price of the completed runs plus the refunds.
    let (charged, refunded) = (account.count_entries("analysis").await, account.count_entries("refund").await);
    assert_eq!(charged - refunded, count("completed"));
    assert_eq!(i64::from(account.balance().await), CREDITS - count("completed"));
}

#[stack_test]
async fn a_profile_whose_posts_do_not_come_costs_one_more_actor_run(world: Arc<World>) {
    let account = world.account(9).await;
    let (good, postless) = (world.handle("postful"), world.handle("postless"));
    let batch = account.start_batch(&[good.clone(), postless.clone()], "light").await;
    let endings = Batch::endings(&batch.ended().await);
    assert_eq!((endings[&good].as_str(), endings[&postless].as_str()), ("completed", "SCRAPE_FAILED"));
    // The group's, and one of the run's own.
    assert_eq!((world.actor_runs(&good).await.len(), world.actor_runs(&postless).await.len()), (1, 2));
    assert_eq!(account.balance().await, 8);
}

#[stack_test]
async fn cached_profiles_are_not_fetched_again(world: Arc<World>) {
    let account = world.account(20).await;
    let known = world.handle("known");
    assert_eq!(account.run(&known, "light").await.status(), "completed");
    let fresh = world.handle("fresh");
    let batch = account.start_batch(&[known.clone(), fresh.clone()], "light").await;
    let endings = Batch::endings(&batch.ended().await);
    assert!(endings.values().all(|end| end == "completed"), "{endings:?}");
    assert_eq!((world.actor_runs(&known).await.len(), world.actor_runs(&fresh).await.len()), (1, 1));
    assert_eq!(world.actor_runs(&fresh).await[0]["match"], json!([fresh]));
}

#[stack_test]
async fn a_cancelled_batch_refunds_its_live_runs_once_and_keeps_the_others(world: Arc<World>) {
    let account = world.account(20).await;
    let (done, running, queued) = (world.handle("ends"), world.handle("runs"), world.handle("waits"));
    // The first two come from the cache; one of them has a slow model, and the third a slow scrape.
    for handle in [&done, &running] {
        assert_eq!(account.run(handle, "light").await.status(), "completed");
    }
    for _ in 0..2 {
        world.slow_model("openai", &running, 2_900).await;
    }
    world.fault("openai", &running, None, json!({ "kind": "hang", "seconds": 60.0 })).await;
    world.fault("anthropic", &running, None, json!({ "kind": "hang", "seconds": 60.0 })).await;
    world.slow_scrape(&queued, 60_000).await;
    let batch = account.start_batch(&[done.clone(), running.clone(), queued.clone()], "light").await;
    let runs = batch.runs();
    account.ended(&runs[&done]).await;
    crate::harness::until("a running analysis", super::TIMEOUT, || async {
        (account.progress(&runs[&running]).await["progress"].as_u64() >= Some(50)).then_some(())
    })
    .await;
    let cancelled = batch.cancel().await.data(200);
    let counts = ["cancelled", "newly_cancelled", "completed", "failed", "total", "credits_refunded"].map(|name| cancelled[name].as_i64());
    assert_eq!(counts, [2, 2, 1, 0, 3, 1].map(Some), "{cancelled}");
    let second = batch.cancel().await.data(200);
    assert_eq!((&second["newly_cancelled"], &second["cancelled"], &second["credits_refunded"]), (&json!(0), &json!(2), &json!(1)));
    let endings = Batch::endings(&batch.ended().await);
    let expected = [(&done, "completed"), (&running, "cancelled"), (&queued, "cancelled")];
    assert_eq!(endings, expected.into_iter().map(|(handle, end)| (handle.clone(), end.to_owned())).collect());
    assert_eq!(account.entries(&runs[&running]).await, [("analysis".to_owned(), -1), ("refund".to_owned(), 1)]);
    assert!(account.entries(&runs[&queued]).await.is_empty());
    assert_eq!(account.balance().await, 17);
    assert_eq!(world.execution_ended(&runs[&running]).await, aws_sdk_sfn::types::ExecutionStatus::Aborted);
    // The consumer notices that no run waits for the Actor run, and aborts it.
    crate::harness::until("an aborted Actor run", super::TIMEOUT, || async {
        world.calls("apify", &queued).await.into_iter().find(|call| call["op"] == "abort")
    })
    .await;

    // Other accounts can neither cancel nor see it.
    let other = Batch { account: world.account(1).await, id: batch.id.clone(), started: json!({}) };
    other.account.get(&format!("/api/leads/analyze/bulk/{}/progress", batch.id)).await.problem(404, "NOT_FOUND");
    other.cancel().await.problem(404, "NOT_FOUND");
}

#[stack_test]
async fn a_cancelled_batch_in_the_queue_fetches_nothing(world: Arc<World>) {
    let (account, begun) = (world.account(5).await, jiff::Timestamp::now());
    let handles = world.handles("never", 3);
    world.slow_scrape(&handles[0], 20_000).await;
    let batch = account.start_batch(&handles, "light").await;
    batch.cancel().await.data(200);
    world.send_message(Queue::BulkGroups, &batch.message()).await;
    world.until_logged("bulk_groups", begun, &["looked up", &batch.id], 2).await;
    assert_eq!((account.balance().await, account.count_entries("analysis").await), (5, 0));
    assert!(world.actor_runs(&handles[0]).await.len() <= 1);
    assert_eq!(Batch::endings(&batch.progress().await).values().filter(|end| *end == "cancelled").count(), 3);
}

#[stack_test(alone)]
async fn a_group_that_failed_once_succeeds_the_second_time(world: Arc<World>) {
    let account = world.account(5).await;
    let handles = world.handles("second", 3);
    world.fault("apify", &handles[1], Some(1), json!({ "kind": "run_failed" })).await;
    let batch = account.start_batch(&handles, "light").await;
    let endings = Batch::endings(&batch.ended().await);
    assert!(endings.values().all(|end| end == "completed"), "{endings:?}");
    assert_eq!(world.actor_runs(&handles[0]).await.len(), 2);
    assert_eq!((account.balance().await, account.count_entries("analysis").await), (2, 3));
    assert_eq!(account.recorded_cost("apify").await, world.bill_of("apify", &handles[0]).await);
}
