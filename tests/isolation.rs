//! Every endpoint for users, requested without a token, by another tenant and by a viewer.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::harness::{Account, Value, World, json, stack_test};

/// The routes that require no token: they are public, or require a signature.
const PUBLIC: [&str; 4] = ["GET /health", "GET /openapi.json", "GET /api/credits/pricing", "POST /api/webhooks/stripe"];

/// An endpoint for users: its route, a body that it accepts, and whether it changes anything.
struct Endpoint {
    route: &'static str,
    body: Option<Value>,
    writes: bool,
}

fn reads(route: &'static str) -> Endpoint {
    Endpoint { route, body: None, writes: false }
}

fn writes(route: &'static str, body: Option<Value>) -> Endpoint {
    Endpoint { route, body, writes: true }
}

fn endpoints(owned: &Owned) -> Vec<Endpoint> {
    let profile = &owned.account.business_profile_id;
    vec![
        writes("POST /api/leads/analyze", Some(json!({ "username": "example", "businessProfileId": profile, "analysisType": "light" }))),
        writes(
            "POST /api/leads/analyze/bulk",
            Some(json!({ "usernames": ["example"], "businessProfileId": profile, "analysisType": "light" })),
        ),
        reads("GET /api/leads/analyze/bulk/{batchId}/progress"),
        writes("POST /api/leads/analyze/bulk/{batchId}/cancel", None),
        reads("GET /api/analysis/{runId}/progress"),
        reads("GET /api/analysis/{runId}/result"),
        writes("POST /api/analysis/{runId}/cancel", None),
        reads("GET /api/leads"),
        reads("GET /api/leads/{leadId}"),
        reads("GET /api/leads/{leadId}/analyses"),
        writes("DELETE /api/leads/{leadId}", None),
        writes("POST /api/leads/{leadId}/restore", None),
        writes("POST /api/leads/{leadId}/refresh-check", None),
        writes("POST /api/leads/{leadId}/force-refresh", None),
        reads("GET /api/cache/statistics"),
        reads("GET /api/business-profiles"),
        reads("GET /api/business-profiles/{profileId}"),
        writes(
            "POST /api/business-profiles",
            Some(json!({ "business_name": "Another", "business_context_pack": { "target_audience": "everyone" } })),
        ),
        writes("PUT /api/business-profiles/{profileId}", Some(json!({ "business_name": "Stolen" }))),
        reads("GET /api/credits/balance"),
        reads("GET /api/credits/transactions"),
        writes("POST /api/credits/purchase", Some(json!({ "amount": 10 }))),
    ]
}

/// An account with a lead, a run and a batch.
struct Owned {
    account: Account,
    run_id: String,
    lead_id: String,
    batch_id: String,
}

impl Owned {
    async fn new(world: &Arc<World>) -> Self {
        let account = world.account(20).await;
        let ended = account.run(&world.handle("owned"), "light").await;
        assert_eq!(ended.status(), "completed");
        let result = account.result(&ended.run_id).await.data(200);
        let body =
            json!({ "usernames": [world.handle("owned")], "businessProfileId": account.business_profile_id, "analysisType": "light" });
        let batch = account.post("/api/leads/analyze/bulk", &body).await.data(202);
        account.ended(batch["analyses"][0]["run_id"].as_str().unwrap()).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self { run_id: ended.run_id, lead_id: text(&result["lead_id"]), batch_id: text(&batch["batch_id"]), account }
    }

    /// Returns method and path of an endpoint, with this account's ids.
    fn address(&self, route: &str) -> (String, String) {
        let (method, path) = route.split_once(' ').unwrap();
        let ids = [
            ("{runId}", &self.run_id),
            ("{batchId}", &self.batch_id),
            ("{leadId}", &self.lead_id),
            ("{profileId}", &self.account.business_profile_id),
        ];
        let path = ids.into_iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        assert!(!path.contains('{'), "{path}: which id?");
        (method.to_owned(), path)
    }

    /// Returns all rows of the account as one text.
    async fn everything(&self) -> String {
        let mut all = String::new();
        for table in ["leads", "analyses", "business_profiles", "credit_ledger", "credit_balances", "subscriptions", "idempotency_keys"] {
            let sql =
                format!("SELECT coalesce(string_agg(t::text, ';' ORDER BY t::text), '') FROM {table} t WHERE account_id = $1::text::uuid");
            all += &self.account.world.db.value::<String>(&sql, &[&self.account.id]).await.unwrap();
        }
        all
    }
}

#[stack_test]
async fn every_route_is_in_this_table(world: Arc<World>) {
    let owned = Owned { account: world.account(0).await, run_id: String::new(), lead_id: String::new(), batch_id: String::new() };
    let known: BTreeSet<String> = endpoints(&owned).iter().map(|endpoint| endpoint.route).chain(PUBLIC).map(ToOwned::to_owned).collect();
    assert_eq!(known, world.stack.routes().iter().cloned().collect());
    // And in the API's document, both the built one and the served one.
    assert_eq!(known, world.contract.routes().map(ToOwned::to_owned).collect());
    let served = world.send(world.http.get(world.url("/openapi.json"))).await;
    let served: BTreeSet<String> = served.body["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase())))
        .collect();
    assert_eq!(known, served);
}

#[stack_test]
async fn without_a_token_every_route_is_unauthorized(world: Arc<World>) {
    let owned = Owned::new(&world).await;
    let before = owned.everything().await;
    for Endpoint { route, body, .. } in endpoints(&owned) {
        let (method, path) = owned.address(route);
        let request = world.http.request(method.parse().unwrap(), world.url(&path));
        let answer = world.send(body.iter().fold(request, reqwest::RequestBuilder::json)).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{route}");
        answer.problem(401, "UNAUTHORIZED");
    }
    assert_eq!(owned.everything().await, before);
    for (path, status) in [("/health", 200), ("/openapi.json", 200), ("/api/credits/pricing", 200)] {
        assert_eq!(world.send(world.http.get(world.url(path))).await.status, status, "{path}");
    }
}

#[stack_test]
async fn another_tenants_objects_are_not_found(world: Arc<World>) {
    let owned = Owned::new(&world).await;
    let other = world.account(20).await;
    let before = owned.everything().await;
    let mut requested = 0;
    for Endpoint { route, body, .. } in endpoints(&owned) {
        let named = body.as_ref().is_some_and(|body| body.to_string().contains(&owned.account.business_profile_id));
        if !route.contains('{') && !named {
            continue;
        }
        let (method, path) = owned.address(route);
        let answer = other.call(&method, &path, body.as_ref()).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (404, Some("NOT_FOUND")), "{route}: {}", answer.body);
        requested += 1;
    }
    assert!(requested >= 10, "{requested}");
    assert_eq!(owned.everything().await, before);
    assert_eq!(other.balance().await, 20);
    // The other tenant's own lists contain nothing of it either.
    for path in ["/api/leads", "/api/credits/transactions", "/api/business-profiles"] {
        let answer = other.get(path).await;
        assert!(!answer.body.to_string().contains(&owned.account.id), "{path}: {}", answer.body);
        assert!(!answer.body.to_string().contains(&owned.lead_id), "{path}: {}", answer.body);
    }
}

#[stack_test]
async fn another_tenants_account_cannot_be_selected(world: Arc<World>) {
    let owned = Owned::new(&world).await;
    let other = world.account(20).await;
    let before = owned.everything().await;
    for Endpoint { route, body, .. } in endpoints(&owned) {
        let (method, path) = owned.address(route);
        let request = other.request_to(&method, &path).header("X-Account-Id", &owned.account.id);
        let answer = world.send(body.iter().fold(request, reqwest::RequestBuilder::json)).await;
        let expected = if route.contains('{') { (404, "NOT_FOUND") } else { (403, "FORBIDDEN") };
        assert_eq!((answer.status, answer.body["code"].as_str().unwrap_or_default()), expected, "{route}: {}", answer.body);
    }
    assert_eq!(owned.everything().await, before);
    let answer = world.send(other.request_to("GET", "/api/leads").header("X-Account-Id", "me")).await;
    assert_eq!(answer.faults(), [("X-Account-Id".to_owned(), "invalid".to_owned())]);
}

#[stack_test]
async fn a_viewer_reads_everything_and_changes_nothing(world: Arc<World>) {
    let owned = Owned::new(&world).await;
    let viewer = world.account(20).await;
    owned.account.admit_member(&viewer, "viewer").await;
    let before = owned.everything().await;
    for Endpoint { route, body, writes } in endpoints(&owned) {
        let (method, path) = owned.address(route);
        let request = viewer.request_to(&method, &path).header("X-Account-Id", &owned.account.id);
        let answer = world.send(body.iter().fold(request, reqwest::RequestBuilder::json)).await;
        if writes {
            assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some("FORBIDDEN")), "{route}: {}", answer.body);
        } else {
            assert_eq!(answer.status, 200, "{route}: {}", answer.body);
        }
    }
    assert_eq!(owned.everything().await, before);
}
