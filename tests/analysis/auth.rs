//! Who is let in, and to whose runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::harness::{Account, Answer, Value, World, json, stack_test, until};

impl Account {
    /// Sends an `Authorization` header, or none, to every endpoint that wants one: start, progress, result and cancel.
    async fn everywhere(&self, authorization: Option<&str>, run_id: &str) -> Vec<Answer> {
        let world = &self.world;
        let body = json!({ "username": "nobody.at.all", "businessProfileId": self.business_profile_id, "analysisType": "light" });
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

    async fn refused_everywhere(&self, what: &str, authorization: Option<&str>, run_id: &str, code: &str) {
        for answer in self.everywhere(authorization, run_id).await {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}: {answer:?}");
            let problem = answer.problem(401, code);
            assert!(problem.get("details").is_none(), "{what}: {problem}");
        }
    }

    /// A token of the account's owner, made as `request` says.
    async fn token_with(&self, mut request: Value) -> String {
        if request.get("sub").is_none() {
            request["sub"] = json!(self.owner().await);
        }
        self.world.token(request).await
    }

    /// Uses a token everywhere and expects what a good one gets. The account has no credits left, so that a start ends at that.
    async fn accepted_everywhere(&self, what: &str, token: &str, run_id: &str) {
        let answers = self.everywhere(Some(&format!("Bearer {token}")), run_id).await;
        let seen: Vec<_> = answers.iter().map(|answer| (answer.status, answer.body["code"].as_str())).collect();
        let expected = [(402, Some("INSUFFICIENT_CREDITS")), (200, None), (200, None), (409, Some("ALREADY_COMPLETE"))];
        assert_eq!(seen, expected, "{what}: {answers:?}");
    }
}

/// An account that has spent its one credit, and the run it got for it.
async fn spent(world: &Arc<World>) -> (Account, String) {
    let account = world.account(1).await;
    let ended = account.run(&world.handle("token"), "light").await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    (account, ended.run_id)
}

#[stack_test]
async fn requests_without_a_valid_token_are_refused_everywhere(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    let good = account.token_with(json!({})).await;
    for authorization in [None, Some("Bearer"), Some("Bearer "), Some(good.as_str()), Some("Basic b3NsaXJhOm9zbGlyYQ==")] {
        account.refused_everywhere(&format!("{authorization:?}"), authorization, &run_id, "UNAUTHORIZED").await;
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
        ("of nobody", json!({ "claims": { "sub": null } })),
        ("of no user id", json!({ "sub": "admin" })),
        ("expired, with the legacy secret", json!({ "alg": "HS256", "expires_in": -60 })),
        ("of another issuer, with the legacy secret", json!({ "alg": "HS256", "iss": "supabase" })),
    ];
    for (what, request) in requests {
        let token = account.token_with(request).await;
        account.refused_everywhere(what, Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    }
    account.refused_everywhere("garbage", Some("Bearer a.b.c"), &run_id, "INVALID_TOKEN").await;
}

#[stack_test]
async fn forged_tokens_are_refused_everywhere(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    let owner = account.owner().await;
    for kind in ["alg_none", "hs256_public_key", "wrong_signature", "unknown_kid"] {
        let token = world.attack_token(&owner, kind).await;
        account.refused_everywhere(kind, Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    }
    // The RSA key's signature under the name of the elliptic one.
    let keys = format!("{}/supabase/auth/v1/.well-known/jwks.json", world.stack.info().sandbox);
    let keys = world.send(world.http.get(keys)).await.body;
    let kid = keys["keys"].as_array().into_iter().flatten().find(|key| key["kty"] == "EC").expect("a key")["kid"].clone();
    let token = account.token_with(json!({ "alg": "RS256", "kid": kid })).await;
    account.refused_everywhere("another key's id", Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    // One's own signature under another's claims.
    let stranger = world.account(0).await;
    for alg in ["ES256", "RS256", "HS256"] {
        let (own, other) = (stranger.token_with(json!({ "alg": alg })).await, account.token_with(json!({ "alg": alg })).await);
        let (claims, signature) = (other.rsplit_once('.').expect("a token").0, own.rsplit_once('.').expect("a token").1);
        account.refused_everywhere(alg, Some(&format!("Bearer {claims}.{signature}")), &run_id, "INVALID_TOKEN").await;
        let unsigned = format!("Bearer {claims}.");
        account.refused_everywhere(alg, Some(&unsigned), &run_id, "INVALID_TOKEN").await;
    }
}

#[stack_test]
async fn every_algorithm_of_the_project_is_accepted_everywhere(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    for alg in ["ES256", "RS256", "HS256"] {
        let token = account.token_with(json!({ "alg": alg })).await;
        account.accepted_everywhere(alg, &token, &run_id).await;
    }
    // Clocks differ a little, audiences may be lists, and a scheme has no case.
    let skewed = Timestamp::now().as_second() + 15;
    for request in [json!({ "nbf": skewed }), json!({ "expires_in": -5 }), json!({ "aud": ["other", "authenticated"] })] {
        let token = account.token_with(request.clone()).await;
        account.accepted_everywhere(&request.to_string(), &token, &run_id).await;
    }
    let answers = account.everywhere(Some(&format!("bEARER {}", account.token)), &run_id).await;
    assert_eq!(answers[1].status, 200, "{answers:?}");
}

#[stack_test]
async fn runs_of_another_tenant_do_not_exist(world: Arc<World>) {
    let (account, stranger) = (world.account(5).await, world.account(5).await);
    let handle = world.handle("tenant");
    world.slow_scrape(&handle, 60_000).await;
    let live = account.start(&handle, "light").await;
    account.charged(&live).await;
    let ended = account.run(&world.handle("tenant"), "light").await.run_id;
    let unknown = "run_00000000000070008000000000000000".to_owned();
    for run_id in [&live, &ended, &unknown] {
        stranger.get(&format!("/api/analysis/{run_id}/progress")).await.problem(404, "NOT_FOUND");
        stranger.result(run_id).await.problem(404, "NOT_FOUND");
        stranger.cancel(run_id).await.problem(404, "NOT_FOUND");
    }
    for garbage in ["run_1", "x", "run_0000000000007000800000000000000G", "%27%20OR%201=1"] {
        let problem = account.get(&format!("/api/analysis/{garbage}/progress")).await.problem(400, "VALIDATION_ERROR");
        assert_eq!(problem["details"][0]["path"], json!("runId"));
        account.result(garbage).await.problem(400, "VALIDATION_ERROR");
        account.cancel(garbage).await.problem(400, "VALIDATION_ERROR");
    }
    assert_eq!(account.progress(&live).await["status"], json!("processing"));
    assert_eq!((account.balance().await, stranger.balance().await), (3, 5));
    account.cancel(&live).await.data(200);
    account.assert_refund_recorded(&live, 1, 4).await;
}

#[stack_test]
async fn a_run_that_only_progress_knows_is_its_tenants_too(world: Arc<World>) {
    let (account, stranger) = (world.account(5).await, world.account(5).await);
    let balance = account.lock_balance().await;
    let run_id = account.start(&world.handle("tenant"), "light").await;
    stranger.get(&format!("/api/analysis/{run_id}/progress")).await.problem(404, "NOT_FOUND");
    stranger.result(&run_id).await.problem(404, "NOT_FOUND");
    stranger.cancel(&run_id).await.problem(404, "NOT_FOUND");
    assert_eq!(account.progress(&run_id).await["status"], json!("pending"));
    balance.batch_execute("COMMIT").await.expect("the lock is released");
    assert_eq!(account.ended(&run_id).await.status(), "completed");
    assert_eq!((account.balance().await, stranger.balance().await), (4, 5));
}

#[stack_test(alone)]
async fn a_rotated_signing_key_costs_no_request(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    let old = account.token_with(json!({})).await;
    account.accepted_everywhere("before", &old, &run_id).await;
    // Functions ask for unknown keys again once in ten seconds, so that strangers cannot make them hammer the issuer.
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
    account.accepted_everywhere("the new key", &new, &run_id).await;
    account.accepted_everywhere("the old key", &old, &run_id).await;
    account.accepted_everywhere("the new key again", &new, &run_id).await;
    let fetched = world.calls("supabase", "").await.len() - before;
    assert!(fetched > 0, "the functions have learned the new key from somewhere");
    let owner = account.owner().await;
    for kind in ["wrong_signature", "unknown_kid"] {
        let token = world.attack_token(&owner, kind).await;
        account.refused_everywhere(kind, Some(&format!("Bearer {token}")), &run_id, "INVALID_TOKEN").await;
    }
}

#[stack_test(alone)]
async fn an_issuer_that_is_down_is_not_the_users_fault(world: Arc<World>) {
    let (account, run_id) = spent(&world).await;
    // A process that has yet to learn the keys.
    world.kill_function("get_progress").await;
    world.fault_rule(json!({ "vendor": "supabase", "fault": { "kind": "status", "status": 500 }, "times": 1 })).await;
    let path = format!("/api/analysis/{run_id}/progress");
    let refused = account.get(&path).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let problem = refused.problem(503, "SERVICE_UNAVAILABLE");
    assert!(!problem.to_string().contains("JWKS") && problem.get("details").is_none(), "{problem}");
    // It is asked again a moment later, not by every request; and once it has answered, the keys are known.
    account.get(&path).await.problem(503, "SERVICE_UNAVAILABLE");
    until("the keys", Duration::from_secs(20), || async { (account.get(&path).await.status == 200).then_some(()) }).await;
    world.fault_rule(json!({ "vendor": "supabase", "fault": { "kind": "status", "status": 500 }, "times": 1 })).await;
    account.get(&path).await.data(200);
    let used_up = world.send(world.http.get(format!("{}/supabase/auth/v1/.well-known/jwks.json", world.stack.info().sandbox))).await;
    assert_eq!(used_up.status, 500, "nobody had asked for the keys");
}
