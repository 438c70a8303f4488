//! The fields of a lead, and the filters and orders of the list.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;

use super::{PATH, ids, lead_of};
use crate::harness::{Value, World, json, stack_test};

/// Removes times from an object, after asserting that each of them is one.
fn take_times(object: &mut Value, names: &[&str]) {
    for name in names {
        let time = object[*name].take();
        assert!(time.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<Timestamp>().is_ok()), "{name}: {time}");
    }
}

#[stack_test]
async fn an_analyzed_lead_is_listed_and_read_with_its_analyses(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("shown");
    let first = account.run(&handle, "light").await.run_id;
    let last = account.run(&handle, "light").await.run_id;
    let lead_id = lead_of(&world, &last).await;
    let sql = "SELECT jsonb_build_object('id', id, 'business_profile_id', business_profile_id, 'instagram_username', username,
                   'display_name', display_name, 'profile_pic_url', profile_pic_url, 'profile_url', 'https://www.instagram.com/' || username || '/',
                   'follower_count', follower_count, 'following_count', following_count, 'post_count', post_count, 'is_verified', is_verified,
                   'is_private', is_private, 'is_business_account', is_business_account, 'last_analyzed_at', null, 'created_at', null)
               FROM leads WHERE id = $1::text::uuid";
    let mut summary: Value = world.db.value(sql, &[&lead_id]).await.unwrap();
    assert!(summary["display_name"].is_string() && summary["follower_count"].is_i64(), "{summary}");
    let sql = "SELECT jsonb_build_object('id', id, 'run_id', run_id, 'analysis_type', 'light', 'overall_score', overall_score,
                   'niche_fit_score', niche_fit_score, 'engagement_score', engagement_score, 'confidence_level', confidence_level::float8,
                   'completed_at', null) FROM analyses WHERE run_id = $1";
    let latest: Value = world.db.value(sql, &[&last]).await.unwrap();
    summary["latest_analysis"] = latest.clone();

    let mut page = account.get(PATH).await.body;
    page["meta"].take();
    take_times(&mut page, &["asOf"]);
    take_times(&mut page["data"][0], &["last_analyzed_at", "created_at"]);
    take_times(&mut page["data"][0]["latest_analysis"], &["completed_at"]);
    let whole = json!({
        "success": true, "data": [summary], "page": 1, "pageSize": 50, "total": 1, "totalPages": 1, "hasMore": false, "asOf": null, "meta": null
    });
    assert_eq!(page, whole);

    let mut detail = account.get(&format!("{PATH}/{lead_id}")).await.data(200);
    take_times(&mut detail, &["first_analyzed_at", "last_analyzed_at", "created_at"]);
    take_times(&mut detail["latest_analysis"], &["completed_at"]);
    let sql = "SELECT jsonb_build_object('account_id', account_id, 'bio', bio, 'external_url', external_url, 'first_analyzed_at', null,
                   'analyses_count', 2) FROM leads WHERE id = $1::text::uuid";
    let more: Value = world.db.value(sql, &[&lead_id]).await.unwrap();
    let mut expected = summary;
    expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(detail, expected);

    let path = format!("{PATH}/{lead_id}/analyses");
    let mut analyses = account.get(&path).await.data(200);
    let runs: Vec<_> = analyses.as_array().unwrap().iter().map(|analysis| analysis["run_id"].clone()).collect();
    assert_eq!(runs, [json!(last), json!(first)]);
    let mut newest = analyses[0].take();
    take_times(&mut newest, &["completed_at", "created_at"]);
    let sql =
        "SELECT jsonb_build_object('status', 'completed', 'summary_text', summary_text, 'credits_charged', 1, 'model_used', model_used,
                   'processing_duration_ms', processing_duration_ms, 'created_at', null) FROM analyses WHERE run_id = $1";
    let more: Value = world.db.value(sql, &[&last]).await.unwrap();
    let mut expected = latest;
    expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(newest, expected);
    assert_eq!(account.get(&format!("{path}?limit=1")).await.data(200).as_array().map(Vec::len), Some(1));
    assert_eq!(account.get(&format!("{path}?analysisType=light")).await.data(200).as_array().map(Vec::len), Some(2));
    assert_eq!(account.get(&format!("{path}?analysisType=xray")).await.data(200), json!([]));
}

#[stack_test]
async fn a_lead_without_an_analysis_is_listed(world: Arc<World>) {
    let account = world.account(0).await;
    let handle = world.handle("never");
    let (name, bio) = ("שלום 👋🏽 — Ünïcode\u{202e}", "مرحبا بكم\n🌿");
    let id = account.written_lead(&handle, &json!({ "name": name, "bio": bio, "created": "2026-01-02T03:04:05.678901Z" })).await;
    let gone = account.written_lead(&world.handle("gone"), &json!({})).await;
    world.db.rows("UPDATE leads SET deleted_at = now() WHERE id = $1::text::uuid", &[&gone]).await;
    let summary = json!({
        "id": id, "business_profile_id": account.business_profile_id, "instagram_username": handle, "display_name": name,
        "profile_pic_url": null, "profile_url": format!("https://www.instagram.com/{handle}/"), "follower_count": null, "following_count": null,
        "post_count": null, "is_verified": false, "is_private": false, "is_business_account": false, "last_analyzed_at": null,
        "created_at": "2026-01-02T03:04:05.678901Z", "latest_analysis": null
    });
    let page = account.leads(&[]).await;
    assert_eq!((&page["data"], &page["total"]), (&json!([summary]), &json!(1)));
    let mut detail = summary;
    detail.as_object_mut().unwrap().extend(
        json!({ "account_id": account.id, "bio": bio, "external_url": null, "first_analyzed_at": null, "analyses_count": 0 })
            .as_object()
            .unwrap()
            .clone(),
    );
    assert_eq!(account.get(&format!("{PATH}/{id}")).await.data(200), detail);
    assert_eq!(account.get(&format!("{PATH}/{id}/analyses")).await.data(200), json!([]));
    account.get(&format!("{PATH}/{gone}")).await.problem(404, "NOT_FOUND");
    account.get(&format!("{PATH}/{gone}/analyses")).await.problem(404, "NOT_FOUND");
}

#[stack_test]
async fn every_order_lists_missing_values_last_and_ties_in_a_stable_order(world: Arc<World>) {
    let account = world.account(0).await;
    let days = ["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"];
    let mut leads = Vec::new();
    for number in 0..12 {
        let analyzed = days.get(number % 3);
        let followers = [Some(5), None, Some(70), Some(5)][number % 4];
        let fields = json!({ "followers": followers, "analyzed": analyzed, "created": days[number / 6] });
        let id = account.written_lead(&world.handle("order"), &fields).await;
        leads.push((id, json!({ "last_analyzed_at": analyzed, "follower_count": followers, "created_at": days[number / 6] })));
    }
    for by in ["last_analyzed_at", "follower_count", "created_at"] {
        for direction in ["asc", "desc"] {
            let turned = |order: Ordering| if direction == "asc" { order } else { order.reverse() };
            let mut expected = leads.clone();
            expected.sort_by(|(one, a), (other, b)| {
                let (a, b) = (&a[by], &b[by]);
                let values = a.as_i64().cmp(&b.as_i64()).then(a.as_str().cmp(&b.as_str()));
                a.is_null().cmp(&b.is_null()).then(turned(values)).then(turned(one.cmp(other)))
            });
            let expected: Vec<String> = expected.into_iter().map(|(id, _)| id).collect();
            let listed = account.leads(&[("sortBy", by), ("sortOrder", direction)]).await;
            assert_eq!(ids(&listed), expected, "{by} {direction}");
            // The same in pages: an order with ties must not repeat or skip rows.
            let mut walked = Vec::new();
            for page in ["1", "2", "3"] {
                walked.extend(ids(&account.leads(&[("sortBy", by), ("sortOrder", direction), ("pageSize", "5"), ("page", page)]).await));
            }
            assert_eq!(walked, expected, "{by} {direction} in pages");
        }
    }
    let usual = account.leads(&[]).await;
    assert_eq!(ids(&usual), ids(&account.leads(&[("sortBy", "last_analyzed_at"), ("sortOrder", "desc")]).await));
}

#[stack_test]
async fn a_search_matches_every_character_literally(world: Arc<World>) {
    let account = world.account(0).await;
    let mut named = Vec::new();
    for name in [r"100% wool", r"under_score", r"back\slash", "Ünïcode", "שלום עולם", "🌿 leaf", "it's; DROP TABLE leads --", "plain"]
    {
        named.push((name, account.written_lead(&world.handle("x"), &json!({ "name": name })).await));
    }
    let dotted = account.written_lead("some.handle", &json!({})).await;
    let found = async |search: &str| ids(&account.leads(&[("search", search)]).await);
    for (search, name) in [
        ("%", "100% wool"),
        ("0% W", "100% wool"),
        (r"\", r"back\slash"),
        (r"k\s", r"back\slash"),
        ("ünïCODE", "Ünïcode"),
        ("שלום", "שלום עולם"),
        ("🌿", "🌿 leaf"),
        ("'s; DROP", "it's; DROP TABLE leads --"),
        ("r_s", "under_score"),
        (" plain ", "plain"),
    ] {
        let id = &named.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(found(search).await, std::slice::from_ref(id), "{search}");
    }
    assert_eq!(found("E.H").await, std::slice::from_ref(&dotted));
    for nothing in ["10%w", "under%score", r"\%", "%%", "somehandle", r"back\\slash"] {
        assert_eq!(found(nothing).await, Vec::<String>::new(), "{nothing}");
    }
    // A handle may be pasted with `@` or as the address of its profile. An address that names no account finds nothing, and says so.
    for written in ["@Some.Handle", "https://www.instagram.com/some.handle/?igsh=x", "instagram.com/stories/some.handle/34/"] {
        assert_eq!(found(written).await, std::slice::from_ref(&dotted), "{written}");
    }
    account.get("/api/leads?search=https://instagram.com/p/CxAbCdEfGhI/").await.problem(400, "VALIDATION_ERROR");
    // An empty or blank search does not filter.
    for empty in ["", "   "] {
        assert_eq!(found(empty).await.len(), named.len() + 1);
    }
    let page = account.leads(&[("search", "E"), ("pageSize", "1"), ("page", "2")]).await;
    assert_eq!((ids(&page).len(), &page["hasMore"]), (1, &json!(true)));
}

#[stack_test]
async fn filters_are_combined(world: Arc<World>) {
    let (account, other) = (world.account(0).await, world.account(0).await);
    let sql = "INSERT INTO business_profiles (account_id, business_name) VALUES ($1::text::uuid, 'Second') RETURNING id::text";
    let second: String = world.db.value(sql, &[&account.id]).await.unwrap();
    let here = account.written_lead(&world.handle("here"), &json!({ "name": "Apple pie" })).await;
    let there = account.written_lead(&world.handle("there"), &json!({ "name": "Apple tart", "profile": second })).await;
    account.written_lead(&world.handle("there"), &json!({ "name": "Pear", "profile": second })).await;
    other.written_lead(&world.handle("here"), &json!({ "name": "Apple of another" })).await;
    let total = async |query: &[(&str, &str)]| account.leads(query).await["total"].as_i64().unwrap();
    assert_eq!(total(&[]).await, 3);
    assert_eq!(total(&[("businessProfileId", &second)]).await, 2);
    assert_eq!(ids(&account.leads(&[("businessProfileId", &account.business_profile_id)]).await), [here]);
    assert_eq!(total(&[("search", "apple")]).await, 2);
    assert_eq!(ids(&account.leads(&[("businessProfileId", &second), ("search", "apple")]).await), [there]);
    // Another account's business profile has no leads here.
    let none = account.leads(&[("businessProfileId", &other.business_profile_id)]).await;
    let about = ["data", "total", "totalPages", "hasMore"].map(|name| none[name].clone());
    assert_eq!(about, [json!([]), json!(0), json!(0), json!(false)]);
}

#[stack_test]
async fn a_caller_without_an_account_cannot_list_leads(world: Arc<World>) {
    let without_account = world.token(json!({ "sub": uuid::Uuid::new_v4() })).await;
    for path in [PATH, "/api/business-profiles", "/api/credits/balance", "/api/credits/transactions"] {
        world.send(world.http.get(world.url(path)).bearer_auth(&without_account)).await.problem(403, "NO_ACCOUNTS");
    }
    let id = uuid::Uuid::new_v4();
    for path in [format!("{PATH}/{id}"), format!("{PATH}/{id}/analyses"), format!("/api/business-profiles/{id}")] {
        world.send(world.http.get(world.url(&path)).bearer_auth(&without_account)).await.problem(404, "NOT_FOUND");
    }
}
