//! Credits: balance, ledger and prices.

use std::sync::Arc;

use crate::harness::{Value, World, json, stack_test};

#[stack_test]
async fn a_new_account_has_its_signup_bonus(world: Arc<World>) {
    let account = world.account(25).await;
    let mut balance = account.get("/api/credits/balance").await.data(200);
    for time in ["last_transaction_at", "created_at", "updated_at"] {
        assert!(balance[time].take().as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()), "{time}");
    }
    let expected = json!({
        "account_id": account.id, "current_balance": 25, "open_shortfall": 0, "disputed_since": null, "plan": "free", "last_transaction_at": null, "created_at": null, "updated_at": null
    });
    assert_eq!(balance, expected);
    let answer = account.get("/api/credits/transactions").await;
    let paging = ["page", "pageSize", "total", "totalPages", "hasMore"].map(|name| answer.body[name].clone());
    assert_eq!(paging, [json!(1), json!(50), json!(1), json!(1), json!(false)]);
    assert!(answer.body["asOf"].is_string());
    assert_eq!(answer.header("ratelimit-policy"), Some("\"general\";q=60;w=60"));
    let mut entry = answer.data(200)[0].clone();
    entry["id"].take();
    entry["created_at"].take();
    let expected = json!({
        "id": null, "account_id": account.id, "entry_no": 1, "amount": 25, "balance_after": 25, "transaction_type": "signup_bonus",
        "run_id": null, "description": "Welcome to Oslira", "metadata": {}, "created_by": format!("user:{}", account.owner().await), "created_at": null
    });
    assert_eq!(entry, expected);
}

/// Returns the numbers of the entries on a page.
fn numbers(page: &Value) -> Vec<i64> {
    page["data"].as_array().unwrap().iter().map(|entry| entry["entry_no"].as_i64().unwrap()).collect()
}

#[stack_test]
async fn the_ledger_is_listed_newest_first_and_by_type(world: Arc<World>) {
    let account = world.account(30).await;
    assert_eq!(account.run(&world.handle("listed"), "light").await.status(), "completed");
    assert_eq!(account.run(&world.handle("private"), "deep").await.status(), "failed");
    let all = account.get("/api/credits/transactions").await.body;
    assert_eq!(numbers(&all), [5, 4, 3, 2, 1]);
    let types: Vec<_> = all["data"].as_array().unwrap().iter().map(|entry| (&entry["transaction_type"], &entry["amount"])).collect();
    let expected = [("refund", 3), ("analysis", -3), ("analysis", -1), ("admin_grant", 5), ("signup_bonus", 25)];
    assert_eq!(types, expected.map(|(name, amount)| (json!(name), json!(amount))).iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
    let charges = account.get("/api/credits/transactions?transactionType=analysis&pageSize=1").await.body;
    assert_eq!((numbers(&charges), &charges["total"], &charges["hasMore"]), (vec![4], &json!(2), &json!(true)));
    let none = account.get("/api/credits/transactions?transactionType=chargeback").await.body;
    assert_eq!((numbers(&none), &none["total"], &none["totalPages"]), (vec![], &json!(0), &json!(0)));
    let beyond = account.get("/api/credits/transactions?page=1000000").await.body;
    assert_eq!((numbers(&beyond), &beyond["total"], &beyond["hasMore"]), (vec![], &json!(5), &json!(false)));
}

#[stack_test]
async fn pages_do_not_shift_while_entries_are_added(world: Arc<World>) {
    let account = world.account(25).await;
    let grant = "SELECT grant_credits($1::text::uuid, 1, 'admin_grant', $2, 'Test')";
    for number in 0..6 {
        world.db.rows(grant, &[&account.id, &format!("step-{number}")]).await;
    }
    let first = account.get("/api/credits/transactions?pageSize=3").await.body;
    let as_of = first["asOf"].as_str().unwrap().to_owned();
    let mut seen = numbers(&first);
    for page in 2..=3 {
        world.db.rows(grant, &[&account.id, &format!("between-{page}")]).await;
        let next = account.get(&format!("/api/credits/transactions?pageSize=3&page={page}&asOf={as_of}")).await.body;
        assert_eq!((&next["total"], &next["asOf"]), (&json!(7), &json!(as_of)));
        seen.extend(numbers(&next));
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

#[stack_test]
async fn all_faults_of_a_list_request_are_reported_at_once(world: Arc<World>) {
    let account = world.account(0).await;
    let faults = account.get("/api/credits/transactions?page=0&pageSize=101&transactionType=gift&asOf=now&sort=up").await.faults();
    let expected = [("transactionType", "invalid"), ("page", "invalid"), ("pageSize", "invalid"), ("asOf", "invalid"), ("sort", "unknown")];
    assert_eq!(faults, expected.map(|(path, code)| (path.to_owned(), code.to_owned())));
    for query in ["page=1.5", "page=-1", "page=", "page=99999999999999999999", "pageSize=x", "pageSize=0", "transactionType="] {
        assert_eq!(account.get(&format!("/api/credits/transactions?{query}")).await.faults().len(), 1, "{query}");
    }
}

#[stack_test]
async fn prices_are_in_cents_and_need_no_authentication(world: Arc<World>) {
    let ask = async |query: &str| world.send(world.http.get(world.url(&format!("/api/credits/pricing{query}")))).await;
    let expected = json!({
        "currency": "usd", "amount": 100, "subtotal_cents": 9700, "discount_percent": 5, "discount_cents": 485, "total_cents": 9215,
        "per_credit_micro_usd": 921_500,
        "breakdown": { "base_price_cents": 97, "bulk_discounts": [
            { "min": 100, "percent": 5 }, { "min": 500, "percent": 10 }, { "min": 1000, "percent": 15 }] }
    });
    assert_eq!(ask("").await.data(200), expected);
    for (amount, total) in [(10, 970), (99, 9603), (499, 45_983), (500, 43_650), (999, 87_213), (1000, 82_450), (10_000, 824_500)] {
        assert_eq!(ask(&format!("?amount={amount}")).await.data(200)["total_cents"], total, "{amount}");
    }
    for query in ["?amount=9", "?amount=10001", "?amount=ten", "?amount=10.5", "?amount=", "?amount=100&amount=200", "?credits=100"] {
        assert_eq!(ask(query).await.faults().len(), 1, "{query}");
    }
}
