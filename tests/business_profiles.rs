//! Business profiles.

use std::sync::Arc;

use futures::future::join_all;

use crate::harness::{Account, Answer, Value, World, json, stack_test};

const PATH: &str = "/api/business-profiles";

/// Creates an account on a plan that allows more business profiles.
async fn on_plan(world: &Arc<World>, plan: &str) -> Account {
    let account = world.account(5).await;
    let sql = "INSERT INTO subscriptions (account_id, plan_id, stripe_subscription_id, current_period_start, current_period_end)
               VALUES ($1::text::uuid, $2, 'sub_test_' || $1, now(), now() + interval '1 month')";
    world.db.rows(sql, &[&account.id, &plan]).await;
    account
}

fn profile(name: &str) -> Value {
    json!({ "business_name": name, "business_context_pack": { "target_audience": "makers" } })
}

#[stack_test]
async fn a_business_profile_is_created_read_listed_and_changed(world: Arc<World>) {
    let account = on_plan(&world, "pro").await;
    let given = json!({
        "business_name": " Ünïcode & Söhne 🌿 ", "website": "https://soehne.example/a?b=c", "business_one_liner": "מים חמים",
        "business_context_pack": {
            "target_audience": "studios\nand gyms", "industry": "fitness", "offering": "software", "icp_min_followers": 0,
            "icp_max_followers": 50_000, "icp_min_engagement_rate": 1.5, "icp_content_themes": ["yoga"], "icp_geographic_focus": "España",
            "icp_industry_niche": "yoga", "selling_points": ["no fees", "quick"], "brand_voice": "warm", "outreach_goals": null
        }
    });
    let mut created = account.post(PATH, &given).await.data(201);
    let id = created["id"].as_str().unwrap().to_owned();
    assert_eq!(account.get(&format!("{PATH}/{id}")).await.data(200), created);
    for name in ["id", "created_at", "updated_at", "context_updated_at"] {
        assert!(created[name].take().is_string(), "{name}");
    }
    let mut pack = given["business_context_pack"].clone();
    pack.as_object_mut().unwrap().remove("outreach_goals");
    let expected = json!({
        "id": null, "account_id": account.id, "business_name": "Ünïcode & Söhne 🌿", "website": "https://soehne.example/a?b=c",
        "business_one_liner": "מים חמים", "business_context_pack": pack, "context_version": "v1.0", "context_generated_at": null,
        "context_manually_edited": true, "context_updated_at": null, "leads_count": 0, "analyses_count": 0, "created_at": null, "updated_at": null
    });
    assert_eq!(created, expected);

    account.run(&world.handle("counted"), "light").await;
    let list = account.get(&format!("{PATH}?pageSize=1")).await.body;
    assert_eq!((&list["total"], &list["totalPages"], &list["hasMore"], &list["pageSize"]), (&json!(2), &json!(2), &json!(true), &json!(1)));
    assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][0]["id"]), (1, &json!(id)));
    let as_of = list["asOf"].as_str().unwrap();
    account.post(PATH, &profile("later")).await.data(201);
    let second = account.get(&format!("{PATH}?pageSize=1&page=2&asOf={as_of}")).await.body;
    assert_eq!((&second["data"][0]["id"], &second["total"]), (&json!(account.business_profile_id), &json!(2)));
    assert_eq!((&second["data"][0]["leads_count"], &second["data"][0]["analyses_count"]), (&json!(1), &json!(1)));

    let changed = account.call("PUT", &format!("{PATH}/{id}"), Some(&json!({ "business_name": "Other" }))).await.data(200);
    assert_eq!((&changed["business_name"], &changed["website"]), (&json!("Other"), &given["website"]));
    // A malformed id is a fault. An unknown id is not found.
    assert_eq!(account.get(&format!("{PATH}/7")).await.faults(), [("profileId".to_owned(), "invalid".to_owned())]);
    account.get(&format!("{PATH}/00000000-0000-4000-8000-000000000000")).await.problem(404, "NOT_FOUND");
}

#[stack_test]
async fn a_change_keeps_other_fields_and_null_clears_a_field(world: Arc<World>) {
    let account = world.account(0).await;
    let path = format!("{PATH}/{}", account.business_profile_id);
    let before = account.get(&path).await.data(200);
    let change = json!({ "website": null, "business_context_pack": { "brand_voice": "dry", "industry": null, "selling_points": [] } });
    let after = account.call("PUT", &path, Some(&change)).await.data(200);
    let mut pack = before["business_context_pack"].clone();
    pack["brand_voice"] = json!("dry");
    pack["selling_points"] = json!([]);
    pack.as_object_mut().unwrap().remove("industry");
    assert_eq!(after["business_context_pack"], pack);
    assert_eq!((&after["website"], &after["business_name"]), (&Value::Null, &before["business_name"]));
    assert_eq!((&after["context_manually_edited"], &after["business_one_liner"]), (&json!(true), &before["business_one_liner"]));
    assert_eq!(account.get(&path).await.data(200), after);
    // An empty change changes nothing.
    let same = account.call("PUT", &path, Some(&json!({}))).await.data(200);
    assert_eq!(same["business_context_pack"], pack);
}

#[stack_test]
async fn concurrent_changes_of_different_fields_both_succeed(world: Arc<World>) {
    let account = world.account(0).await;
    let path = format!("{PATH}/{}", account.business_profile_id);
    let fields = ["industry", "offering", "brand_voice", "outreach_goals", "icp_geographic_focus", "icp_industry_niche"];
    let changes = fields.map(|field| json!({ "business_context_pack": { field: "new" } }));
    for answer in join_all(changes.iter().map(|change| account.call("PUT", &path, Some(change)))).await {
        answer.data(200);
    }
    let pack = account.get(&path).await.data(200)["business_context_pack"].clone();
    assert_eq!(fields.map(|field| pack[field].clone()), fields.map(|_| json!("new")));
}

#[stack_test]
async fn the_range_of_followers_includes_stored_values(world: Arc<World>) {
    let account = world.account(0).await;
    let path = format!("{PATH}/{}", account.business_profile_id);
    let change = |pack: Value| json!({ "business_context_pack": pack });
    let put = async |body: Value| account.call("PUT", &path, Some(&body)).await;
    put(change(json!({ "icp_min_followers": 100, "icp_max_followers": 200 }))).await.data(200);
    let range = [("business_context_pack.icp_max_followers".to_owned(), "invalid".to_owned())];
    assert_eq!(put(change(json!({ "icp_min_followers": 5, "icp_max_followers": 4 }))).await.faults(), range);
    assert_eq!(put(change(json!({ "icp_max_followers": 99 }))).await.faults(), range);
    assert_eq!(put(change(json!({ "icp_min_followers": 201 }))).await.faults(), range);
    put(change(json!({ "icp_max_followers": 100 }))).await.data(200);
    put(change(json!({ "icp_max_followers": null, "icp_min_followers": 5000 }))).await.data(200);
}

#[stack_test]
async fn the_plan_limits_concurrent_creations(world: Arc<World>) {
    let free = world.account(0).await;
    let refused = free.post(PATH, &profile("second")).await.problem(403, "PLAN_LIMIT");
    assert_eq!(refused["details"], json!({ "plan": "free", "limit": 1 }));
    let account = on_plan(&world, "pro").await;
    let all = join_all((0..10).map(|number| {
        let (account, body) = (account.clone(), profile(&format!("p{number}")));
        async move { account.post(PATH, &body).await }
    }))
    .await;
    let created = all.iter().filter(|answer| answer.status == 201).count();
    let limited = all.iter().filter(|answer| answer.status == 403 && answer.body["code"] == "PLAN_LIMIT").count();
    assert_eq!((created, limited), (2, 8), "{:?}", all.iter().map(|answer: &Answer| answer.status).collect::<Vec<_>>());
    // Deleted business profiles do not count.
    world
        .db
        .rows(
            "UPDATE business_profiles SET deleted_at = now() WHERE account_id = $1::text::uuid AND business_name = 'Nordlicht Studio'",
            &[&account.id],
        )
        .await;
    account.post(PATH, &profile("again")).await.data(201);
}

#[stack_test]
async fn all_faults_of_a_business_profile_are_reported_at_once(world: Arc<World>) {
    let account = world.account(0).await;
    let faults = |given: Vec<(String, String)>| given.into_iter().map(|(path, code)| format!("{path} {code}")).collect::<Vec<_>>();
    let body = json!({
        "website": "soehne.example", "business_one_liner": "x".repeat(501), "color": "red",
        "business_context_pack": { "industry": 7, "icp_min_followers": -1, "selling_points": vec!["x"; 11], "icp_content_themes": [""], "mood": 1 }
    });
    let expected = [
        "business_name required",
        "website invalid",
        "business_one_liner invalid",
        "business_context_pack.target_audience required",
        "business_context_pack.industry invalid",
        "business_context_pack.icp_content_themes invalid",
        "business_context_pack.selling_points invalid",
        "business_context_pack.icp_min_followers invalid",
        "business_context_pack.mood unknown",
        "color unknown",
    ];
    assert_eq!(faults(account.post(PATH, &body).await.faults()), expected);
    for (body, fault) in [
        (json!({ "business_name": "", "business_context_pack": { "target_audience": "a" } }), "business_name invalid"),
        (json!({ "business_name": "x".repeat(201), "business_context_pack": { "target_audience": "a" } }), "business_name invalid"),
        (json!({ "business_name": "a\u{0}b", "business_context_pack": { "target_audience": "a" } }), "business_name invalid"),
        (json!({ "business_name": "x" }), "business_context_pack required"),
        (json!({ "business_name": "x", "business_context_pack": null }), "business_context_pack required"),
        (json!({ "business_name": "x", "business_context_pack": [] }), "business_context_pack invalid"),
    ] {
        assert_eq!(faults(account.post(PATH, &body).await.faults()), [fault], "{body}");
    }
    let path = format!("{PATH}/{}", account.business_profile_id);
    for (body, fault) in [
        (json!({ "business_name": null }), "business_name required"),
        (json!({ "business_context_pack": { "target_audience": null } }), "business_context_pack.target_audience required"),
        (json!({ "business_context_pack": null }), "business_context_pack invalid"),
        (json!({ "id": "x" }), "id unknown"),
    ] {
        assert_eq!(faults(account.call("PUT", &path, Some(&body)).await.faults()), [fault], "{body}");
    }
    assert_eq!(
        faults(account.get(&format!("{PATH}?pageSize=51&page=a&search=x")).await.faults()),
        ["page invalid", "pageSize invalid", "search unknown"]
    );
}

#[stack_test]
async fn unreadable_bodies_are_rejected_with_their_reason(world: Arc<World>) {
    let account = world.account(0).await;
    let path = format!("{PATH}/{}", account.business_profile_id);
    let put = async |kind: &str, body: Vec<u8>| world.send(account.request_to("PUT", &path).header("content-type", kind).body(body)).await;
    put("application/json", b"{\"business_name\": \"x\"".to_vec()).await.problem(400, "INVALID_JSON");
    put("application/json", vec![]).await.problem(400, "INVALID_JSON");
    put("application/json", "[".repeat(5000).into_bytes()).await.problem(400, "INVALID_JSON");
    put("text/plain", b"{}".to_vec()).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    put("application/json", format!("{{\"business_name\": \"{}\"}}", "x".repeat(70_000)).into_bytes())
        .await
        .problem(413, "PAYLOAD_TOO_LARGE");
    put("application/json; charset=utf-8", b"{}".to_vec()).await.data(200);
    // The emulator replaces bytes that are not UTF-8; API Gateway passes them on in Base64.
    let event = json!({
        "version": "2.0", "routeKey": format!("PUT {PATH}/{{profileId}}"), "rawPath": path, "rawQueryString": "",
        "headers": { "authorization": format!("Bearer {}", account.token), "content-type": "application/json" },
        "pathParameters": { "profileId": account.business_profile_id },
        "requestContext": { "http": { "method": "PUT", "path": path }, "stage": "$default", "requestId": "bytes", "timeEpoch": 0 },
        "body": "eyJidXNpbmVzc19uYW1lIjogIv/+In0=", "isBase64Encoded": true
    });
    let answer = world.invoke("update-business-profile", &event).await.expect("an answer");
    let body: Value = answer["body"].as_str().expect("a body").parse().expect("JSON");
    assert_eq!((&answer["statusCode"], &body["code"]), (&json!(400), &json!("INVALID_JSON")), "{answer}");
}

/// Also by the function itself, the database takes only packs that the API can read back.
#[stack_test]
async fn no_pack_makes_a_profile_unreadable(world: Arc<World>) {
    let account = world.account(0).await;
    let path = format!("{PATH}/{}", account.business_profile_id);
    let user: String = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
    let claims = json!({ "sub": user, "role": "authenticated" }).to_string();
    let client = world.db.connect().await;
    client.query("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
    client.batch_execute("SET ROLE oslira_api").await.unwrap();
    let sql = "SELECT update_business_profile($1::text::uuid, NULL, $2::text::jsonb) ->> 'outcome'";
    let nested = format!("{}{}", "[".repeat(130), "]".repeat(130));
    let long = "1".repeat(4000);
    for pack in [
        r#"{ "icp_min_followers": 1e400 }"#.to_owned(),
        r#"{ "icp_min_engagement_rate": 1e400 }"#.to_owned(),
        format!(r#"{{ "icp_max_followers": {long} }}"#),
        format!(r#"{{ "icp_min_engagement_rate": 0.{long} }}"#),
        format!(r#"{{ "selling_points": {nested} }}"#),
        format!(r#"{{ "other": {nested} }}"#),
        r#"{ "selling_points": [1] }"#.to_owned(),
        r#"{ "icp_min_followers": -1 }"#.to_owned(),
        r#"{ "icp_min_followers": 1.5 }"#.to_owned(),
        r#"{ "icp_min_followers": "5" }"#.to_owned(),
        r#"{ "industry": "" }"#.to_owned(),
        "[1]".to_owned(),
        r#""x""#.to_owned(),
    ] {
        let changes = format!(r#"{{ "business_context_pack": {pack} }}"#);
        let error = client.query_one(sql, &[&account.business_profile_id, &changes]).await.unwrap_err();
        assert_eq!(error.as_db_error().map(|error| error.code().code()), Some("OS400"), "{pack:.80}");
        account.get(&path).await.data(200);
    }
    // The smallest rate that the API accepts is stored with all its decimals.
    let body = json!({ "business_context_pack": { "icp_min_engagement_rate": 5e-324, "icp_max_followers": 2_000_000_000 } });
    account.call("PUT", &path, Some(&body)).await.data(200);
    account.get(&path).await.data(200);
}
