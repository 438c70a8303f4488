//! `POST /api/leads/{leadId}/refresh-check`

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{aged, is_fresh};
use crate::harness::{Account, Value, World, json, stack_test};

/// The fields that clients read, in every answer.
fn assert_complete(data: &Value, lead: &str, handle: &str) {
    assert_eq!((data["lead_id"].as_str(), data["username"].as_str()), (Some(lead), Some(handle)));
    let reason = &data["invalidation_reason"];
    assert_eq!(data["needs_refresh"].as_bool(), Some(!reason.is_null()), "{data}");
    assert!(reason.is_null() || reason["reason"].is_string() && reason["details"].is_string(), "{data}");
    let changes = &data["changes"];
    for field in ["old", "new", "change"] {
        // The number of followers now is unknown for handles that begin so.
        let is_known = field == "old" || !handle.starts_with("uncounted");
        assert_eq!(changes["follower_count"][field].is_i64(), is_known, "{data}");
    }
    for field in ["bio_changed", "privacy_changed", "verification_changed"] {
        assert!(changes[field].is_boolean(), "{data}");
    }
    assert!(data["recommendation"].is_string() && data.get("last_analyzed").is_some(), "{data}");
}

/// A lead with its entry, to be checked against others.
struct Checked {
    account: Account,
    handle: String,
    lead: String,
    entry: Value,
}

impl Checked {
    async fn new(world: &Arc<World>, beginning: &str) -> Self {
        let account = world.account(3).await;
        let handle = world.handle(beginning);
        let lead = account.lead(&handle).await;
        Self { account, lead, entry: world.entry(&handle).await, handle }
    }

    fn fresh(&self, field: &str) -> &Value {
        &self.entry["profile"][field]
    }

    /// Checks the lead while the cache says something else of its profile.
    async fn against(&self, field: &str, cached: Value) -> Value {
        let mut entry = self.entry.clone();
        entry["profile"][field] = cached;
        self.against_entry(&entry.to_string()).await
    }

    async fn against_entry(&self, content: &str) -> Value {
        let world = &self.account.world;
        world.put_cached(&self.handle, content).await;
        let data = self.account.refresh_check(&self.lead).await.data(200);
        assert_complete(&data, &self.lead, &self.handle);
        let replaced = world.entry(&self.handle).await;
        assert!(is_fresh(&replaced) && replaced["profile"] == self.entry["profile"], "{replaced}");
        data
    }
}

fn reason(data: &Value) -> Option<&str> {
    data["invalidation_reason"]["reason"].as_str()
}

#[stack_test]
async fn followers_decide_at_a_tenth(world: Arc<World>) {
    let checked = Checked::new(&world, "followers").await;
    let now = checked.fresh("follower_count").as_i64().unwrap();
    // The numbers of which `now` is a tenth more and a tenth less, as far as whole numbers go; one further is a change.
    let (least, most) = ((10 * now + 10) / 11, 10 * now / 9);
    for (cached, expected) in [
        (now, None),
        (least, None),
        (least - 1, Some("follower_change")),
        (most, None),
        (most + 1, Some("follower_change")),
        (0, Some("follower_change")),
    ] {
        let data = checked.against("follower_count", json!(cached)).await;
        assert_eq!(reason(&data), expected, "{cached} cached, {now} now: {data}");
        let change = &data["changes"]["follower_count"];
        assert_eq!((&change["old"], &change["new"], &change["change"]), (&json!(cached), &json!(now), &json!(now - cached)));
        // Of nothing there is no percentage.
        assert_eq!(change["change_percent"].is_null(), cached == 0, "{data}");
        assert_eq!((&data["compared_with"], &data["cache_status"]), (&json!("cache"), &json!("fresh")));
    }
    assert_eq!(checked.account.vendor_costs().await, world.bill(&checked.handle).await);
}

/// `bio` with so many characters replaced and so many added that are not in it.
fn edited(bio: &str, replaced: usize, added: usize) -> String {
    let kept = bio.chars().skip(replaced);
    "§".repeat(replaced).chars().chain(kept).chain("§".repeat(added).chars()).collect()
}

#[stack_test]
async fn bios_decide_at_seven_tenths(world: Arc<World>) {
    // The second person writes in emoji, whose bytes are not their characters.
    for beginning in ["bio", "emoji"] {
        let checked = Checked::new(&world, beginning).await;
        let bio = checked.fresh("bio").as_str().unwrap().to_owned();
        let length = bio.chars().count();
        assert!(length > 25 && !bio.contains('§'), "{bio}");
        // Edits that leave exactly 0.7 of the longer text in common: 10 × (replaced + added) = 3 × (length + added).
        let added = 9 * length % 10;
        let replaced = (3 * length - 7 * added) / 10;
        assert_eq!(10 * (replaced + added), 3 * (length + added));
        for (cached, expected) in [
            (bio.clone(), None),
            (edited(&bio, replaced, added), None),
            (edited(&bio, replaced + 1, added), Some("bio_change")),
            (String::new(), Some("bio_change")),
        ] {
            let data = checked.against("bio", json!(cached)).await;
            assert_eq!((reason(&data), &data["changes"]["bio_changed"]), (expected, &json!(expected.is_some())), "{data}");
        }
    }
}

#[stack_test]
async fn privacy_and_verification_decide(world: Arc<World>) {
    let checked = Checked::new(&world, "badge").await;
    let data = checked.against("is_private", json!(true)).await;
    assert_eq!((reason(&data), &data["changes"]["privacy_changed"]), (Some("privacy_change"), &json!(true)), "{data}");
    let verified = checked.fresh("is_verified").as_bool().unwrap();
    let data = checked.against("is_verified", json!(!verified)).await;
    assert_eq!((reason(&data), &data["changes"]["verification_changed"]), (Some("verification_change"), &json!(true)), "{data}");
    // What no rule looks at is no change.
    for (field, value) in
        [("display_name", json!("Someone Else")), ("post_count", json!(1)), ("following_count", json!(1)), ("posts", json!([]))]
    {
        assert_eq!(reason(&checked.against(field, value).await), None, "{field}");
    }
}

#[stack_test]
async fn entries_that_are_old_missing_or_damaged_are_replaced(world: Arc<World>) {
    let checked = Checked::new(&world, "replaced").await;
    let stale = aged(&checked.entry, 25 * 3600);
    let data = checked.against_entry(&stale.to_string()).await;
    assert_eq!((&data["cache_status"], &data["compared_with"], reason(&data)), (&json!("stale"), &json!("cache"), None));
    let mut changed = stale;
    changed["profile"]["follower_count"] = json!(1);
    let data = checked.against_entry(&changed.to_string()).await;
    assert_eq!((&data["cache_status"], reason(&data)), (&json!("stale"), Some("follower_change")));
    let mut foreign = checked.entry.clone();
    foreign["version"] = json!(2);
    foreign["profile"]["follower_count"] = json!(1);
    for content in [foreign.to_string(), "{".to_owned()] {
        let data = checked.against_entry(&content).await;
        assert_eq!((&data["cache_status"], &data["compared_with"], reason(&data)), (&json!("missing"), &json!("lead"), None), "{data}");
    }
    checked.account.force_refresh(&checked.lead).await.data(200);
    let data = checked.account.refresh_check(&checked.lead).await.data(200);
    assert_eq!((&data["cache_status"], &data["compared_with"], reason(&data)), (&json!("missing"), &json!("lead"), None), "{data}");
    assert!(is_fresh(&world.entry(&checked.handle).await));
    // Neither a copy nor an analysis to compare with.
    checked.account.force_refresh(&checked.lead).await.data(200);
    world
        .db
        .rows(
            "UPDATE leads SET follower_count = NULL, first_analyzed_at = NULL, last_analyzed_at = NULL WHERE id = $1::text::uuid",
            &[&checked.lead],
        )
        .await;
    let data = checked.account.refresh_check(&checked.lead).await.data(200);
    assert_eq!((reason(&data), &data["changes"], &data["compared_with"]), (Some("ttl_expired"), &Value::Null, &Value::Null), "{data}");
}

#[stack_test]
async fn a_change_holds_until_the_lead_is_analyzed_again(world: Arc<World>) {
    let checked = Checked::new(&world, "holds").await;
    let sql = "UPDATE leads SET follower_count = follower_count * 2 WHERE id = $1::text::uuid";
    world.db.rows(sql, &[&checked.lead]).await;
    for _ in 0..2 {
        let data = checked.account.refresh_check(&checked.lead).await.data(200);
        assert_eq!((reason(&data), &data["compared_with"]), (Some("follower_change"), &json!("lead")), "{data}");
    }
    assert_eq!(checked.account.lead(&checked.handle).await, checked.lead);
    assert_eq!(reason(&checked.account.refresh_check(&checked.lead).await.data(200)), None);
}

#[stack_test]
async fn unusual_profiles_are_compared_too(world: Arc<World>) {
    let empty = Checked::new(&world, "zero").await;
    let data = empty.against("follower_count", json!(0)).await;
    assert_eq!((reason(&data), &data["changes"]["follower_count"]["change_percent"]), (None, &Value::Null), "{data}");
    assert_eq!(reason(&empty.against("follower_count", json!(1)).await), Some("follower_change"));
    // Unknown is not zero: the lead had followers, and how many it has now is not known.
    let uncounted = Checked::new(&world, "uncounted").await;
    let data = uncounted.against("follower_count", json!(10_000)).await;
    let expected = json!({ "old": 10_000, "new": null, "change": null, "change_percent": null });
    assert_eq!((reason(&data), &data["changes"]["follower_count"]), (None, &expected), "{data}");
    let everybody = Checked::new(&world, "huge").await;
    assert_eq!(reason(&everybody.against("follower_count", json!(0)).await), Some("follower_change"));
}

#[stack_test]
async fn private_missing_and_blocked_profiles_have_codes_of_their_own(world: Arc<World>) {
    let account = world.account(0).await;
    let [closed, private, missing, blocked] = ["private", "private", "missing", "blocked"].map(|beginning| world.handle(beginning));
    // It was public when it was analyzed. That it is private now is a change, and stays one.
    let lead = account.old_lead(&closed, false).await;
    for _ in 0..2 {
        let data = account.refresh_check(&lead).await.data(200);
        assert_complete(&data, &lead, &closed);
        assert_eq!((&data["is_private"], &data["changes"]["privacy_changed"]), (&json!(true), &json!(true)), "{data}");
        assert_eq!(world.entry(&closed).await["profile"]["is_private"], json!(true));
    }
    // One that was private before has no news to tell.
    let lead = account.old_lead(&private, true).await;
    account.refresh_check(&lead).await.problem(422, "PROFILE_PRIVATE");

    let lead = account.old_lead(&missing, false).await;
    world.put_cached(&missing, "{}").await;
    account.refresh_check(&lead).await.problem(422, "PROFILE_NOT_FOUND");
    assert_eq!(world.cached(&missing).await, None, "the cache has forgotten it too");

    let lead = account.old_lead(&blocked, false).await;
    let answer = account.refresh_check(&lead).await;
    assert_eq!(answer.header("retry-after"), Some("60"));
    answer.problem(503, "PROFILE_BLOCKED");
    assert_eq!(world.cached(&blocked).await, None);

    let restricted = world.handle("restricted");
    let lead = account.old_lead(&restricted, false).await;
    world.put_cached(&restricted, "{}").await;
    account.refresh_check(&lead).await.problem(422, "PROFILE_RESTRICTED");
    assert_eq!(world.cached(&restricted).await.as_deref(), Some("{}"), "it exists, so that the cache keeps it");

    let mut billed = 0;
    for handle in [closed, private, missing, blocked, restricted] {
        billed += world.bill(&handle).await;
    }
    assert_eq!((account.vendor_costs().await, account.recorded_checks().await.len()), (billed, 6));
}

#[stack_test]
async fn failing_scrapes_are_recorded(world: Arc<World>) {
    let account = world.account(0).await;
    for (fault, code, recorded) in [
        (json!({ "kind": "run_failed" }), "SCRAPE_FAILED", Some("error")),
        (json!({ "kind": "run_timed_out" }), "SCRAPE_FAILED", Some("timeout")),
        (json!({ "kind": "run_aborted" }), "SCRAPE_FAILED", Some("error")),
        (json!({ "kind": "empty_dataset" }), "PROFILE_BLOCKED", Some("success")),
        (json!({ "kind": "disconnect" }), "SCRAPE_FAILED", Some("timeout")),
        (json!({ "kind": "status", "status": 500 }), "SCRAPE_FAILED", None),
        (json!({ "kind": "status", "status": 402 }), "SCRAPE_FAILED", None),
    ] {
        let handle = world.handle("failing");
        let lead = account.old_lead(&handle, false).await;
        let before = (account.vendor_costs().await, account.recorded_checks().await.len());
        world.fault("apify", &handle, None, fault.clone()).await;
        let answer = account.refresh_check(&lead).await;
        assert!(answer.header("retry-after").is_some(), "{fault}");
        answer.problem(503, code);
        let recorded_now = account.recorded_checks().await;
        assert_eq!(recorded_now.get(before.1).map(String::as_str), recorded, "{fault}");
        assert_eq!(account.vendor_costs().await - before.0, world.bill(&handle).await, "{fault}");
        assert_eq!(world.cached(&handle).await, None, "{fault}");
    }
}

#[stack_test]
async fn a_slow_actor_is_aborted_in_time(world: Arc<World>) {
    let checked = Checked::new(&world, "sluggish").await;
    world.slow_scrape(&checked.handle, 60_000).await;
    let asked = Instant::now();
    let answer = checked.account.refresh_check(&checked.lead).await;
    assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
    assert!(answer.header("retry-after").is_some());
    answer.problem(503, "SCRAPE_TIMED_OUT");
    assert_eq!(world.actor_calls(&checked.handle, "abort").await, 1);
    assert_eq!(world.entry(&checked.handle).await, checked.entry, "the entry stays");
    assert_eq!(checked.account.recorded_checks().await, ["timeout"]);
    assert_eq!(checked.account.vendor_costs().await, world.bill(&checked.handle).await);
}

#[stack_test]
async fn only_members_who_may_write_check_their_own_leads(world: Arc<World>) {
    let checked = Checked::new(&world, "tenants").await;
    let (other, viewer) = (world.account(0).await, world.account(0).await);
    checked.account.admit_member(&viewer, "viewer").await;
    let before = world.actor_calls(&checked.handle, "start").await;
    for path in ["refresh-check", "force-refresh"] {
        let path = format!("/api/leads/{}/{path}", checked.lead);
        other.post(&path, &json!({})).await.problem(404, "NOT_FOUND");
        viewer.post(&path, &json!({})).await.problem(403, "FORBIDDEN");
        // In the name of the account as well as in one's own: the lead is that account's.
        for (account, status) in [(&checked.account.id, 403), (&viewer.id, 404)] {
            let request = world.http.post(world.url(&path)).bearer_auth(&viewer.token).header("x-account-id", account);
            assert_eq!(world.send(request).await.status, status);
        }
        assert_eq!(world.send(world.http.post(world.url(&path))).await.status, 401);
        checked.account.post(&path.replace(&checked.lead, "none"), &json!({})).await.problem(400, "VALIDATION_ERROR");
        let nowhere = path.replace(&checked.lead, &uuid::Uuid::now_v7().to_string());
        checked.account.post(&nowhere, &json!({})).await.problem(404, "NOT_FOUND");
    }
    assert_eq!(world.actor_calls(&checked.handle, "start").await, before);
    assert_eq!(world.entry(&checked.handle).await, checked.entry);
    // Costs are written by the backend alone.
    for (role, may) in [("anon", false), ("authenticated", false), ("oslira_api", false), ("service_role", true)] {
        let sql = "SELECT has_function_privilege($1::text::name, 'record_account_call(uuid,jsonb)'::regprocedure, 'EXECUTE')";
        assert_eq!(world.db.value::<bool>(sql, &[&role]).await, Some(may), "{role}");
    }
}

#[stack_test]
async fn ten_checks_an_hour_and_account(world: Arc<World>) {
    let (one, other) = (Checked::new(&world, "limit").await, Checked::new(&world, "limit").await);
    let mut refused = None;
    // A new hour may begin meanwhile.
    for number in 0..21 {
        let answer = one.account.refresh_check(&one.lead).await;
        if answer.status == 429 {
            refused = Some((number, answer));
            break;
        }
        assert!(answer.header("ratelimit-policy").unwrap().contains("\"refresh_checks\";q=10;w=3600"));
        answer.data(200);
    }
    let (number, answer) = refused.expect("a limit");
    assert!(number >= 10 && answer.header("retry-after").is_some());
    answer.problem(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(world.actor_calls(&one.handle, "start").await, 1 + number);
    other.account.refresh_check(&other.lead).await.data(200);
}

#[stack_test]
async fn a_rotated_key_of_apify_is_fetched_again(world: Arc<World>) {
    let checked = Checked::new(&world, "rotated").await;
    // Refused once, as a key is that was replaced after it was read.
    world.fault("apify", &checked.handle, Some(1), json!({ "kind": "status", "status": 401 })).await;
    checked.account.refresh_check(&checked.lead).await.data(200);
    assert_eq!(checked.account.vendor_costs().await, world.bill(&checked.handle).await);
}
