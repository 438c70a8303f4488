//! Authentication, and access to runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::harness::{Account, Answer, Value, World, json, stack_test, until};

impl Account {
    /// Sends a request with this `Authorization` header, or without one, to start, progress, result and cancel.
    async fn request_every_endpoint(&self, authorization: Option<&str>, run_id: &str) -> Vec<Answer> {
        let world = &self.world;
        let body = json!({ "username": "not.a.handle.of.a.run", "businessProfileId": self.business_profile_id, "analysisType": "light" });
        let run = |what: &str| world.url(&format!("/api/analysis/{run_id}/{what}"));
        let requests = [
            world.http.post(world.url("/api/leads/analyze")).json(&body),
            world.http.get(run("progress")),
            world.http.get(run("result")),
            world.http.post(run("cancel")),
        ];
        let mut answers = Vec::new();
        for request in requests {
            let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
            answers.push(world.send(request).await);
        }
        answers
    }

    async fn assert_rejected_by_every_endpoint(&self, what: &str, authorization: Option<&str>, run_id: &str, code: &str) {
        for answer in self.request_every_endpoint(authorization, run_id).await {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}: {answer:?}");
            let problem = answer.problem(401, code);
            assert!(problem.get("details").is_none(), "{what}: {problem}");
        }
    }

    /// Returns a token of the account's owner with the claims and the algorithm in `request`.
    async fn token_with(&self, mut request: Value) -> String {
        if request.get("sub").is_none() {
            request["sub"] = json!(self.owner().await);
        }
        self.world.token(request).await
    }

    /// Asserts that every endpoint accepts a token. The account has no credits left, so that a start responds with 402.
    async fn assert_accepted_by_every_endpoint(&self, what: &str, token: &str, run_id: &str) {
        let answers = self.request_every_endpoint(Some(&format!("Bearer {token}")), run_id).await;
        let seen: Vec<_> = answers.iter().map(|answer| (answer.status, answer.body["code"].as_str())).collect();
        let expected = [(402, Some("INSUFFICIENT_CREDITS")), (200, None), (200, None), (409, Some("ALREADY_COMPLETE"))];
        assert_eq!(seen, expected, "{what}: {answers:?}");
    }
}

/// Creates an account that has spent its one credit. Returns it with the run.
async fn spent(world: &Arc<World>) -> (Account, String) {
    let account = world.account(1).await;
    let ended = account.run(&world.handle("token"), "light").await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    (account, ended.run_id)
}

#[stack_test]
async fn every_endpoint_rejects_requests_without_a_valid_token(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    let good = account.token_with(json!({})).await;
    for authorization in [None, Some("Bearer"), Some("Bearer "), Some(good.as_str()), Some("Basic b3NsaXJhOm9zbGlyYQ==")] {
        account.assert_rejected_by_every_endpoint(&format!("{authorization:?}"), authorization, &run_id, "UNAUTHORIZED").await;
    }
    let soon = Timestamp::now().as_second() + 300;
    let requests = [
        ("expired", json!({ "expires_in": -60 })),
        ("not valid yet", json!({ "nbf": soon })),
        ("without an end", json!({ "claims": { "exp": null } })),
        ("of another issuer", json!({ "iss": "https://other.supabase.co/auth/v1" })),
        ("of no issuer", json!({ "claims": { "iss": null } })),
        ("for another audience", json!({ "aud": "anon" })),
        ("for no audience", json!({ "claims": { "aud": null } })),
        ("of the anonymous role", json!({ "claims": { "role": "anon" } })),
        ("of the service role", json!({ "claims": { "role": "service_role" } })),
        ("without a user", json!({ "claims": { "sub": null } })),
        ("of no user id", json!({ "sub": "admin" })),
        ("expired, with the legacy secret", json!({ "alg": "HS256", "expires_in": -60 })),
        ("of another issuer, with the legacy secret", json!({ "alg": "HS256", "iss": "supabase" })),
    ];
    for (what, request) in requests {
        let token = account.token_with(request).await;
        account.assert_rejected_by_every_endpoint(what, Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    }
    account.assert_rejected_by_every_endpoint("garbage", Some("Bearer a.b.c"), &run_id, "INVALID_TOKEN").await;
}

#[stack_test]
async fn every_endpoint_rejects_forged_tokens(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    let owner = account.owner().await;
    for kind in ["alg_none", "hs256_public_key", "wrong_signature", "unknown_kid"] {
        let token = world.attack_token(&owner, kind).await;
        account.assert_rejected_by_every_endpoint(kind, Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    }
    // A signature of the RSA key with the id of the EC key.
    let keys = format!("{}/supabase/auth/v1/.well-known/jwks.json", world.stack.info().sandbox);
    let keys = world.send(world.http.get(keys)).await.body;
    let kid = keys["keys"].as_array().into_iter().flatten().find(|key| key["kty"] == "EC").expect("a key")["kid"].clone();
    let token = account.token_with(json!({ "alg": "RS256", "kid": kid })).await;
    account.assert_rejected_by_every_endpoint("another key's id", Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    // The signature of one user's token with another user's claims.
    let outsider = world.account(0).await;
    for alg in ["ES256", "RS256", "HS256"] {
        let (own, other) = (outsider.token_with(json!({ "alg": alg })).await, account.token_with(json!({ "alg": alg })).await);
        let (claims, signature) = (other.rsplit_once('.').expect("a token").0, own.rsplit_once('.').expect("a token").1);
        account.assert_rejected_by_every_endpoint(alg, Some(&format!("Bearer {claims}.{signature}")), &run_id, "INVALID_TOKEN").await;
        let unsigned = format!("Bearer {claims}.");
        account.assert_rejected_by_every_endpoint(alg, Some(&unsigned), &run_id, "INVALID_TOKEN").await;
    }
}

#[stack_test]
async fn every_endpoint_accepts_every_algorithm_of_the_project(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    for alg in ["ES256", "RS256", "HS256"] {
        let token = account.token_with(json!({ "alg": alg })).await;
        account.assert_accepted_by_every_endpoint(alg, &token, &run_id).await;
    }
    // Small clock skew, a list of audiences, and a scheme in another case.
    let skewed = Timestamp::now().as_second() + 15;
    for request in [json!({ "nbf": skewed }), json!({ "expires_in": -5 }), json!({ "aud": ["other", "authenticated"] })] {
        let token = account.token_with(request.clone()).await;
        account.assert_accepted_by_every_endpoint(&request.to_string(), &token, &run_id).await;
    }
    let answers = account.request_every_endpoint(Some(&format!("bEARER {}", account.token)), &run_id).await;
    assert_eq!(answers[1].status, 200, "{answers:?}");
}

#[stack_test]
async fn a_run_of_another_tenant_is_not_found(world: Arc<World>) {
    let (account, outsider) = (world.account(5).await, world.account(5).await);
    let handle = world.handle("tenant");
    world.slow_scrape(&handle, 60_000).await;
    let live = account.start(&handle, "light").await;
    account.charged(&live).await;
    let ended = account.run(&world.handle("tenant"), "light").await.run_id;
    let unknown = "run_00000000000070008000000000000000".to_owned();
    for run_id in [&live, &ended, &unknown] {
        outsider.get(&format!("/api/analysis/{run_id}/progress")).await.problem(404, "NOT_FOUND");
        outsider.result(run_id).await.problem(404, "NOT_FOUND");
        outsider.cancel(run_id).await.problem(404, "NOT_FOUND");
    }
    for garbage in ["run_1", "x", "run_0000000000007000800000000000000G", "%27%20OR%201=1"] {
        let problem = account.get(&format!("/api/analysis/{garbage}/progress")).await.problem(400, "VALIDATION_ERROR");
        assert_eq!(problem["details"][0]["path"], json!("runId"));
        account.result(garbage).await.problem(400, "VALIDATION_ERROR");
        account.cancel(garbage).await.problem(400, "VALIDATION_ERROR");
    }
    assert_eq!(account.progress(&live).await["status"], json!("processing"));
    assert_eq!((account.balance().await, outsider.balance().await), (3, 5));
    account.cancel(&live).await.data(200);
    account.assert_refund_recorded(&live, 1, 4).await;
}

#[stack_test]
async fn a_run_without_a_row_is_visible_to_its_tenant_only(world: Arc<World>) {
    let (account, outsider) = (world.account(5).await, world.account(5).await);
    let balance = account.lock_balance().await;
    let run_id = account.start(&world.handle("tenant"), "light").await;
    outsider.get(&format!("/api/analysis/{run_id}/progress")).await.problem(404, "NOT_FOUND");
    outsider.result(&run_id).await.problem(404, "NOT_FOUND");
    outsider.cancel(&run_id).await.problem(404, "NOT_FOUND");
    assert_eq!(account.progress(&run_id).await["status"], json!("pending"));
    balance.batch_execute("COMMIT").await.expect("the lock is released");
    assert_eq!(account.ended(&run_id).await.status(), "completed");
    assert_eq!((account.balance().await, outsider.balance().await), (4, 5));
}

#[stack_test(alone)]
async fn rotating_the_signing_key_fails_no_request(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    let old = account.token_with(json!({})).await;
    account.assert_accepted_by_every_endpoint("before", &old, &run_id).await;
    // Functions fetch unknown keys at most once in ten seconds, so that clients cannot flood the issuer.
    until("the functions' last fetch of keys to be a while ago", Duration::from_mins(1), || async {
        let fetches = world.calls("supabase", "").await;
        let last = fetches.iter().filter_map(|call| call["started_at_ms"].as_i64()).max().unwrap_or(0);
        (Timestamp::now().as_millisecond() - last > 11_000).then_some(())
    })
    .await;
    let before = world.calls("supabase", "").await.len();
    let rotated = world.http.post(format!("{}/_control/keys/rotate", world.stack.info().sandbox));
    assert_eq!(world.send(rotated).await.status, 200);
    let new = account.token_with(json!({})).await;
    account.assert_accepted_by_every_endpoint("the new key", &new, &run_id).await;
    account.assert_accepted_by_every_endpoint("the old key", &old, &run_id).await;
    account.assert_accepted_by_every_endpoint("the new key again", &new, &run_id).await;
    let fetched = world.calls("supabase", "").await.len() - before;
    assert!(fetched > 0, "the functions have fetched the new key");
    let owner = account.owner().await;
    for kind in ["wrong_signature", "unknown_kid"] {
        let token = world.attack_token(&owner, kind).await;
        account.assert_rejected_by_every_endpoint(kind, Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    }
}

#[stack_test(alone)]
async fn an_unavailable_issuer_causes_a_503_and_not_a_401(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    // A new process has not fetched the keys yet.
    world.kill_function("get_progress").await;
    // It fetches them in vain during init, and again for the request.
    world.fault_rule(json!({ "vendor": "supabase", "fault": { "kind": "status", "status": 500 }, "times": 2 })).await;
    let path = format!("/api/analysis/{run_id}/progress");
    let refused = account.get(&path).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let problem = refused.problem(503, "SERVICE_UNAVAILABLE");
    assert!(!problem.to_string().contains("JWKS") && problem.get("details").is_none(), "{problem}");
    // The keys are fetched again after a pause, not by every request. Afterwards they are known.
    account.get(&path).await.problem(503, "SERVICE_UNAVAILABLE");
    until("the keys", Duration::from_secs(20), || async { (account.get(&path).await.status == 200).then_some(()) }).await;
    world.fault_rule(json!({ "vendor": "supabase", "fault": { "kind": "status", "status": 500 }, "times": 1 })).await;
    account.get(&path).await.data(200);
    let used_up = world.send(world.http.get(format!("{}/supabase/auth/v1/.well-known/jwks.json", world.stack.info().sandbox))).await;
    assert_eq!(used_up.status, 500, "the keys were not fetched");
}
