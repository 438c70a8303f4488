//! Pages: past the end, and while rows are added.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ids;
use crate::harness::{Value, World, json, stack_test};

#[stack_test]
async fn a_page_past_the_end_is_empty_and_has_the_total(world: Arc<World>) {
    let account = world.account(0).await;
    for _ in 0..5 {
        account.written_lead(&world.handle("end"), &json!({})).await;
    }
    let about = |page: &Value| ["page", "pageSize", "total", "totalPages", "hasMore"].map(|name| page[name].clone());
    for (page, size, rows, more) in
        [("1", "2", 2, true), ("2", "2", 2, true), ("3", "2", 1, false), ("4", "2", 0, false), ("1000000", "2", 0, false)]
    {
        let answer = account.leads(&[("page", page), ("pageSize", size)]).await;
        assert_eq!(ids(&answer).len(), rows, "{page}");
        assert_eq!(about(&answer), [json!(page.parse::<i64>().unwrap()), json!(2), json!(5), json!(3), json!(more)]);
    }
    let answer = account.leads(&[("page", "1000000"), ("pageSize", "100"), ("search", "end")]).await;
    assert_eq!(about(&answer), [json!(1_000_000), json!(100), json!(5), json!(1), json!(false)]);
    let answer = account.leads(&[("asOf", "2001-01-01T00:00:00Z")]).await;
    assert_eq!(about(&answer), [json!(1), json!(50), json!(0), json!(0), json!(false)]);
    assert_eq!(answer["asOf"], json!("2001-01-01T00:00:00Z"));
}

#[stack_test]
async fn pages_do_not_shift_while_leads_are_added(world: Arc<World>) {
    let account = world.account(0).await;
    let mut known = BTreeSet::new();
    for number in 0..23 {
        let fields = json!({ "followers": number % 5, "analyzed": (number % 2 == 0).then_some("2026-02-01T00:00:00Z") });
        known.insert(account.written_lead(&world.handle("walk"), &fields).await);
    }
    for (by, direction) in [("created_at", "desc"), ("created_at", "asc"), ("last_analyzed_at", "desc"), ("follower_count", "asc")] {
        let query = |page: &str, as_of: Option<&str>| {
            let mut query = vec![("sortBy", by), ("sortOrder", direction), ("pageSize", "4"), ("page", page)];
            query.extend(as_of.map(|as_of| ("asOf", as_of)));
            query.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        };
        let ask = async |page: &str, as_of: Option<&str>| {
            let query = query(page, as_of);
            account.leads(&query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>()).await
        };
        let first = ask("1", None).await;
        let (total, as_of) = (first["total"].clone(), first["asOf"].as_str().unwrap().to_owned());
        assert_eq!(total, json!(known.len()));
        let done = AtomicBool::new(false);
        let walk = async {
            let mut walked = ids(&first);
            for page in 2..=first["totalPages"].as_i64().unwrap() {
                let next = ask(&page.to_string(), Some(&as_of)).await;
                assert_eq!((&next["total"], &next["asOf"]), (&total, &json!(as_of)), "{by} {direction}");
                walked.extend(ids(&next));
            }
            done.store(true, Ordering::Relaxed);
            walked
        };
        let write = async {
            let mut added = Vec::new();
            while !done.load(Ordering::Relaxed) && added.len() < 12 {
                let fields = json!({ "followers": 3, "analyzed": "2026-02-01T00:00:00Z" });
                added.push(account.written_lead(&world.handle("walk"), &fields).await);
            }
            added
        };
        let (walked, added) = tokio::join!(walk, write);
        assert!(!added.is_empty());
        assert_eq!(walked.len(), known.len(), "{by} {direction}");
        assert_eq!(walked.into_iter().collect::<BTreeSet<_>>(), known, "{by} {direction}");
        // Then start again with the current rows, but keep the number of pages small.
        for id in added {
            world.db.rows("UPDATE leads SET deleted_at = now() WHERE id = $1::text::uuid", &[&id]).await;
        }
    }
}
