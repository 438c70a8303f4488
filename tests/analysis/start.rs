//! Requests that `POST /api/leads/analyze` refuses, and the canonical form of handles.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::harness::{Account, Answer, Value, World, json, stack_test, until};

const PATH: &str = "/api/leads/analyze";

impl Account {
    /// Returns a request without a body.
    fn request(&self) -> reqwest::RequestBuilder {
        self.world.http.post(self.world.url(PATH)).bearer_auth(&self.token)
    }

    /// Sends any body with any content type.
    async fn send_body(&self, content_type: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request().body(body);
        let request = content_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        self.world.send(request).await
    }

    /// Requests a LIGHT analysis for an account.
    async fn analyze_for(&self, account_id: &str, business_profile_id: &str, handle: &str) -> Answer {
        let body = json!({ "username": handle, "businessProfileId": business_profile_id, "analysisType": "light" });
        self.world.send(self.request().header("X-Account-Id", account_id).json(&body)).await
    }

    pub(crate) async fn owner(&self) -> String {
        self.world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&self.id]).await.expect("an owner")
    }

    /// Makes the owner of `other` a member here.
    pub(crate) async fn admit_member(&self, other: &Self, role: &str) {
        let sql = "INSERT INTO account_members (account_id, user_id, role) VALUES ($1::text::uuid, $2::text::uuid, $3)";
        self.world.db.rows(sql, &[&self.id, &other.owner().await, &role]).await;
    }

    pub(super) async fn runs(&self) -> i64 {
        self.world.db.value("SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid", &[&self.id]).await.expect("a count")
    }

    /// Waits until a run is charged.
    pub(super) async fn charged(&self, run_id: &str) {
        until(&format!("the charge of {run_id}"), Duration::from_mins(1), || async {
            let status: Option<String> = self.world.db.value("SELECT status FROM analyses WHERE run_id = $1", &[&run_id]).await;
            status.filter(|status| status == "processing")
        })
        .await;
    }
}

/// Returns path and code of every fault, in order.
fn faults(problem: &Value) -> Vec<(&str, &str)> {
    let faults = problem["details"].as_array().expect("a list of faults");
    assert!(faults.iter().all(|fault| fault["message"].as_str().is_some_and(|text| !text.is_empty())), "{problem}");
    faults.iter().map(|fault| (fault["path"].as_str().unwrap_or("?"), fault["code"].as_str().unwrap_or("?"))).collect()
}

#[stack_test]
async fn a_response_lists_every_fault_of_the_request(world: Arc<World>) {
    let account = world.account(5).await;
    let profile = &account.business_profile_id;
    let all = |code| vec![("username", code), ("businessProfileId", code), ("analysisType", code)];
    let and = |mut faults: Vec<(&'static str, &'static str)>, more| {
        faults.push(more);
        faults
    };
    let nothing = vec![("", "invalid")];
    let expected = [
        (json!({}), all("required")),
        (json!({ "username": null, "businessProfileId": null, "analysisType": null }), all("required")),
        (
            json!({ "username": 7, "businessProfileId": true, "analysisType": ["light"], "credits": 0 }),
            and(all("invalid"), ("credits", "unknown")),
        ),
        (
            json!({ "username": "a..b", "businessProfileId": "mine", "analysisType": "heavy", "run_id": null }),
            and(all("invalid"), ("run_id", "unknown")),
        ),
        (json!({ "username": "a".repeat(31), "businessProfileId": profile, "analysisType": "deep" }), vec![("username", "invalid")]),
        (
            json!({ "username": "https://www.instagram.com/p/CxAbCdEfGhI/", "businessProfileId": profile, "analysisType": "light" }),
            vec![("username", "invalid")],
        ),
        (json!({ "username": "nike", "business_profile_id": profile, "analysisType": "bulk" }), {
            vec![("businessProfileId", "required"), ("analysisType", "invalid"), ("business_profile_id", "unknown")]
        }),
        (json!({ "username": "nike", "businessProfileId": profile, "analysisType": "light", "x": {} }), vec![("x", "unknown")]),
        (json!([]), nothing.clone()),
        (json!("nike"), nothing.clone()),
        (json!(null), nothing),
    ];
    for (body, expected) in expected {
        let problem = account.post(PATH, &body).await.problem(400, "VALIDATION_ERROR");
        assert_eq!(faults(&problem), expected, "{body}");
    }
    assert_eq!((account.runs().await, account.balance().await), (0, 5));
}

#[stack_test]
async fn an_unreadable_body_has_an_error_of_its_own_kind(world: Arc<World>) {
    const JSON: Option<&str> = Some("application/json");
    let account = world.account(5).await;
    let deep = "[".repeat(5000);
    for body in ["", "{", "{} {}", "username=nike", "\u{feff}{}", "{'username': 'nike'}", deep.as_str()] {
        account.send_body(JSON, body.to_owned()).await.problem(400, "INVALID_JSON");
    }
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx"), Some("json")] {
        account.send_body(content_type, "{}").await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        account.send_body(Some(content_type), "{}").await.problem(400, "VALIDATION_ERROR");
    }
    let of_size = |size: usize| format!("{{{}}}", " ".repeat(size - 2));
    account.send_body(JSON, of_size(64 * 1024)).await.problem(400, "VALIDATION_ERROR");
    account.send_body(JSON, of_size(64 * 1024 + 1)).await.problem(413, "PAYLOAD_TOO_LARGE");
    let unauthenticated = world.http.post(world.url(PATH)).header("content-type", "application/json").body(of_size(64 * 1024 + 1));
    world.send(unauthenticated).await.problem(401, "UNAUTHORIZED");
    // A gateway passes bytes that are not UTF-8 on in Base64, or replaces the invalid ones.
    let body = &b"{\"username\": \"\xff\xfe\"}"[..];
    let replaced = account.send_body(JSON, body).await;
    assert_eq!((replaced.status, &replaced.body["success"]), (400, &json!(false)), "{replaced:?}");
    let event = json!({
        "version": "2.0", "routeKey": format!("POST {PATH}"), "rawPath": PATH, "rawQueryString": "",
        "headers": { "authorization": format!("Bearer {}", account.token), "content-type": "application/json" },
        "requestContext": { "http": { "method": "POST", "path": PATH }, "stage": "$default", "requestId": "bytes", "timeEpoch": 0 },
        "body": "eyJ1c2VybmFtZSI6ICL//iJ9", "isBase64Encoded": true
    });
    let answer = world.invoke("start-analysis", &event).await.expect("an answer");
    let body: Value = answer["body"].as_str().expect("a body").parse().expect("JSON");
    assert_eq!((&answer["statusCode"], &body["code"]), (&json!(400), &json!("INVALID_JSON")), "{answer}");
    assert_eq!((account.runs().await, account.balance().await), (0, 5));
}

#[stack_test]
async fn all_spellings_of_a_handle_are_one_lead(world: Arc<World>) {
    let account = world.account(5).await;
    let handle = world.handle("spelled");
    let shout = handle.to_uppercase();
    let mut leads = Vec::new();
    for written in [
        shout.clone(),
        format!(" @{handle} "),
        format!("https://www.instagram.com/{shout}/?hl=en"),
        format!("instagram.com/{handle}/reels"),
    ] {
        let started = account.analyze(&written, "light").await.data(202);
        assert_eq!(started["username"], json!(handle), "{written}");
        let ended = account.ended(started["run_id"].as_str().expect("a run id")).await;
        let result = account.result(&ended.run_id).await.data(200);
        assert_eq!((&result["username"], &result["cache_hit"]), (&json!(handle), &json!(!leads.is_empty())), "{written}");
        leads.push(result["lead_id"].clone());
    }
    leads.dedup();
    assert_eq!(leads.len(), 1, "{leads:?}");
    let sql = "SELECT count(*) FROM leads WHERE account_id = $1::text::uuid";
    assert_eq!(world.db.value::<i64>(sql, &[&account.id]).await, Some(1));
}

#[stack_test]
async fn a_live_run_of_a_handle_is_a_conflict_that_names_it(world: Arc<World>) {
    let (account, neighbour) = (world.account(25).await, world.account(1).await);
    let handle = world.handle("twin");
    world.slow_scrape(&handle, 60_000).await;
    let run_id = account.start(&handle, "light").await;
    account.charged(&run_id).await;
    for (written, tier) in
        [(handle.clone(), "light"), (handle.to_uppercase(), "xray"), (format!("https://instagram.com/{handle}/"), "deep")]
    {
        let problem = account.analyze(&written, tier).await.problem(409, "DUPLICATE_ANALYSIS");
        assert_eq!(problem["details"], json!({ "run_id": run_id, "progress_url": format!("/api/analysis/{run_id}/progress") }));
    }
    assert_eq!((account.runs().await, account.balance().await), (1, 24));
    // Other accounts are not affected.
    let others = neighbour.start(&handle, "light").await;
    assert_ne!(others, run_id);
    account.cancel(&run_id).await.data(200);
    account.assert_refund_recorded(&run_id, 1, 25).await;
    neighbour.charged(&others).await;
    neighbour.cancel(&others).await.data(200);
    // The conflict ends with the run.
    let again = account.start(&handle, "light").await;
    account.charged(&again).await;
    account.cancel(&again).await.data(200);
}

#[stack_test]
async fn a_402_states_the_balance_and_the_price(world: Arc<World>) {
    let account = world.account(2).await;
    let handle = world.handle("poor");
    for (tier, required) in [("deep", 3), ("xray", 5)] {
        let problem = account.analyze(&handle, tier).await.problem(402, "INSUFFICIENT_CREDITS");
        assert_eq!(problem["details"], json!({ "available": 2, "required": required }));
    }
    assert_eq!((account.runs().await, account.balance().await), (0, 2));
    assert_eq!(account.run(&handle, "light").await.status(), "completed");
    assert_eq!(account.run(&handle, "light").await.status(), "completed");
    let problem = account.analyze(&handle, "light").await.problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(problem["details"], json!({ "available": 0, "required": 1 }));
}

#[stack_test]
async fn a_business_profile_of_another_account_does_not_exist(world: Arc<World>) {
    let (account, other) = (world.account(5).await, world.account(5).await);
    let handle = world.handle("profile");
    let unknown = "00000000-0000-4000-8000-000000000000";
    for id in [other.business_profile_id.as_str(), unknown] {
        account.analyze_for(&account.id, id, &handle).await.problem(404, "NOT_FOUND");
    }
    for garbage in ["", "mine", "1", "'; DROP TABLE leads; --"] {
        let problem = account.analyze_for(&account.id, garbage, &handle).await.problem(400, "VALIDATION_ERROR");
        assert_eq!(faults(&problem), [("businessProfileId", "invalid")]);
    }
    let sql = "UPDATE business_profiles SET deleted_at = now() WHERE id = $1::text::uuid";
    world.db.rows(sql, &[&account.business_profile_id]).await;
    account.analyze(&handle, "light").await.problem(404, "NOT_FOUND");
    assert_eq!((account.runs().await, account.balance().await, other.runs().await, other.balance().await), (0, 5, 0, 5));
}

#[stack_test]
async fn the_account_header_chooses_among_memberships_only(world: Arc<World>) {
    let (account, other) = (world.account(5).await, world.account(5).await);
    let handle = world.handle("header");
    for foreign in [other.id.as_str(), "00000000-0000-4000-8000-000000000000"] {
        account.analyze_for(foreign, &account.business_profile_id, &handle).await.problem(403, "FORBIDDEN");
        account.analyze_for(foreign, &other.business_profile_id, &handle).await.problem(403, "FORBIDDEN");
    }
    for malformed in ["", "mine", "1234"] {
        let problem = account.analyze_for(malformed, &account.business_profile_id, &handle).await.problem(400, "VALIDATION_ERROR");
        assert_eq!(faults(&problem), [("X-Account-Id", "invalid")]);
    }
    // A member of both accounts can choose either. Without the header the older membership counts.
    other.admit_member(&account, "member").await;
    let started = account.analyze_for(&other.id, &other.business_profile_id, &handle).await.data(202);
    let run_id = started["run_id"].as_str().expect("a run id");
    account.ended(run_id).await;
    // The same holds for what is read of the run and done to it: with the header only the chosen account's runs are found.
    for (method, what) in [("GET", "progress"), ("GET", "result"), ("POST", "cancel")] {
        let send = async |header: Option<&String>| {
            let request = account.request_to(method, &format!("/api/analysis/{run_id}/{what}"));
            world.send(header.into_iter().fold(request, |request, id| request.header("X-Account-Id", id))).await
        };
        send(Some(&account.id)).await.problem(404, "NOT_FOUND");
        for header in [None, Some(&other.id)] {
            let answer = send(header).await;
            let expected = if what == "cancel" { (409, Some("ALREADY_COMPLETE")) } else { (200, None) };
            assert_eq!((answer.status, answer.body["code"].as_str()), expected, "{what}: {}", answer.body);
        }
    }
    assert_eq!((account.balance().await, other.balance().await), (5, 4));
    account.run(&handle, "light").await;
    assert_eq!((account.balance().await, other.balance().await), (4, 4));
    let body = json!({ "username": handle, "businessProfileId": other.business_profile_id, "analysisType": "light" });
    account.post(PATH, &body).await.problem(404, "NOT_FOUND");

    let without_account = Account { token: world.token(json!({ "sub": "00000000-0000-4000-8000-00000000abcd" })).await, ..account.clone() };
    without_account.analyze(&handle, "light").await.problem(403, "NO_ACCOUNTS");
    world.db.rows("UPDATE accounts SET is_suspended = true WHERE id = $1::text::uuid", &[&other.id]).await;
    other.analyze(&handle, "light").await.problem(403, "NO_ACCOUNTS");
    account.analyze_for(&other.id, &other.business_profile_id, &handle).await.problem(403, "FORBIDDEN");
}

#[stack_test]
async fn a_viewer_reads_runs_and_cannot_spend(world: Arc<World>) {
    let (account, viewer) = (world.account(5).await, world.account(5).await);
    account.admit_member(&viewer, "viewer").await;
    let handle = world.handle("viewed");
    world.slow_scrape(&handle, 60_000).await;
    viewer.analyze_for(&account.id, &account.business_profile_id, &handle).await.problem(403, "FORBIDDEN");
    assert_eq!(account.runs().await, 0);
    let run_id = account.start(&handle, "light").await;
    account.charged(&run_id).await;
    assert_eq!(viewer.progress(&run_id).await["run_id"], json!(run_id));
    viewer.result(&run_id).await.problem(425, "NOT_COMPLETE");
    viewer.cancel(&run_id).await.problem(403, "FORBIDDEN");
    assert_eq!(account.balance().await, 4);
    account.cancel(&run_id).await.data(200);
    account.assert_refund_recorded(&run_id, 1, 5).await;
}

/// Returns the number of the hourly window and the seconds left in it.
fn hour() -> (i64, i64) {
    let second = Timestamp::now().as_second();
    (second / 3600, 3600 - second % 3600)
}

#[stack_test]
async fn the_101st_analysis_of_an_hour_is_refused_until_the_next(world: Arc<World>) {
    let (account, colleague, neighbour) = (world.account(25).await, world.account(5).await, world.account(5).await);
    account.admit_member(&colleague, "member").await;
    // The whole test runs in one window.
    until("an hour with two minutes left", Duration::from_secs(150), || async { (hour().1 > 120).then_some(()) }).await;
    let window = hour().0;
    let handles = [(); 5].map(|()| world.handle("limited"));
    let first = account.analyze(&handles[0], "light").await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"analyses\";q=100;w=3600"));
    let (policy, left) = first.header("ratelimit").and_then(|text| text.split_once(";t=")).expect("the state of the limit");
    assert_eq!(policy, "\"analyses\";r=99");
    assert!((1..=3600).contains(&left.parse::<i64>().expect("seconds")), "{left}");
    let run_id = first.data(202)["run_id"].as_str().expect("a run id").to_owned();

    // Adds ninety-eight more to the counter, of which the first request has shown that each counts as one.
    let table = world.stack.outputs()["RateLimitsTableName"].clone();
    let bucket = AttributeValue::S(format!("analyses#{}#{window}", account.id));
    let counted = world.dynamodb.update_item().table_name(table).key("bucket", bucket).update_expression("ADD used :more");
    let counted = counted.condition_expression("used = :one").expression_attribute_values(":more", AttributeValue::N("98".to_owned()));
    counted.expression_attribute_values(":one", AttributeValue::N("1".to_owned())).send().await.expect("the counter stands at one");

    let hundredth = account.analyze(&handles[1], "light").await;
    assert!(hundredth.header("ratelimit").is_some_and(|text| text.starts_with("\"analyses\";r=0;")), "{:?}", hundredth.headers);
    let hundredth = hundredth.data(202)["run_id"].as_str().expect("a run id").to_owned();
    let refused = account.analyze(&handles[2], "light").await;
    let seconds: i64 = refused.header("retry-after").expect("when to retry").parse().expect("seconds");
    assert!(seconds <= hour().1 + 60 && hour().1 - 5 <= seconds, "{seconds}, {} are left", hour().1);
    assert_eq!(refused.header("ratelimit"), Some(format!("\"analyses\";r=0;t={seconds}").as_str()));
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    // All members share the account's limit. Other accounts have their own.
    colleague.analyze_for(&account.id, &account.business_profile_id, &handles[3]).await.problem(429, "RATE_LIMIT_EXCEEDED");
    let others = neighbour.analyze(&handles[4], "light").await;
    assert!(others.header("ratelimit").is_some_and(|text| text.starts_with("\"analyses\";r=99;")), "{:?}", others.headers);
    let others = others.data(202)["run_id"].as_str().expect("a run id").to_owned();
    assert_eq!(hour().0, window, "the test took longer than the hour had left");
    for (account, run_id) in [(&account, &run_id), (&account, &hundredth), (&neighbour, &others)] {
        assert_eq!(account.ended(run_id).await.status(), "completed");
    }
    assert_eq!((account.runs().await, account.balance().await), (2, 23));
}

#[stack_test(alone)]
async fn requests_that_no_limit_counts_are_counted_as_such(world: Arc<World>) {
    let account = world.account(0).await;
    let table = world.set_variable("get_balance", "RATE_LIMITS_TABLE", "oslira-no-such-table").await;
    account.get("/api/credits/balance").await.data(200);
    world.set_variable("get_balance", "RATE_LIMITS_TABLE", &table).await;
    until("the metric", Duration::from_secs(20), || async {
        let lines = world.stack.log_lines(Some("get_balance")).await.unwrap();
        let lines = lines.into_iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
        lines.rev().find(|line| line["limits_uncounted"] == 1 && line["scope"] == "general")
    })
    .await;
}
