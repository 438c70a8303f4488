//! Purchases, from the checkout to the balance: a payment is granted once, however often and by whichever event Stripe reports it.

use std::sync::Arc;

use crate::harness::{Account, Queue, Value, World, json, stack_test};

/// Delivers an event ten times in sequence and 20 times at once, and waits until all deliveries are processed.
async fn repeat(world: &World, event: &Value) {
    let statuses = world.deliver(event, json!({ "times": 10 })).await;
    assert_eq!(statuses, vec![json!(200); 10]);
    let statuses = world.deliver(event, json!({ "times": 20, "concurrent": true })).await;
    assert_eq!(statuses, vec![json!(200); 20]);
    world.until_empty(Queue::StripeEvents).await;
}

#[stack_test]
async fn a_paid_purchase_is_granted_once(world: Arc<World>) {
    let account = world.account(9).await;
    let bought = account.purchase(&json!({ "amount": 250 }), None).await.data(201);
    let session_id = bought["session_id"].as_str().unwrap();
    assert_eq!(json!([bought["amount"], bought["total_cents"], bought["currency"], bought["status"]]), json!([250, 23_037, "usd", "open"]));
    let session = world.stripe_object(&format!("checkout/sessions/{session_id}")).await;
    assert_eq!(session["url"], bought["checkout_url"]);
    assert_eq!(
        json!([session["mode"], session["amount_total"], session["currency"], session["client_reference_id"], session["payment_status"]]),
        json!(["payment", 23_037, "usd", account.id, "unpaid"])
    );
    assert_eq!(session["metadata"], json!({ "kind": "credits", "account_id": account.id, "credits": "250", "total_cents": "23037" }));
    assert_eq!(session["success_url"], "https://app.oslira.com/credits?checkout=success&session_id={CHECKOUT_SESSION_ID}");
    assert_eq!(account.balance().await, 9);

    world.stripe(&format!("sessions/{session_id}/pay"), json!({})).await;
    account.until_balance(259).await;
    let payment = world.stripe_object(&format!("checkout/sessions/{session_id}")).await["payment_intent"].clone();
    let payment = world.stripe_object(&format!("payment_intents/{}", payment.as_str().unwrap())).await;
    assert_eq!(payment["metadata"], session["metadata"]);

    repeat(&world, &world.stripe_event("checkout.session.completed", session_id).await).await;
    assert_eq!((account.amounts("purchase").await, account.balance().await), (vec![250], 259));
    let balance = account.get("/api/credits/balance").await.data(200);
    assert_eq!((&balance["current_balance"], &balance["plan"]), (&json!(259), &json!("free")));
    let listed = account.get("/api/credits/transactions?transactionType=purchase").await.body;
    let entry = &listed["data"][0];
    assert_eq!(
        json!([listed["total"], entry["amount"], entry["balance_after"], entry["description"]]),
        json!([1, 250, 259, "250 credits"])
    );
    assert_eq!(entry["metadata"], json!({ "session": session_id, "payment_intent": payment["id"], "amount_cents": 23_037 }));
}

#[stack_test]
async fn a_delayed_payment_is_granted_when_it_succeeds(world: Arc<World>) {
    let account = world.account(0).await;
    let session = account.checkout(10).await;
    world.stripe(&format!("sessions/{session}/pay"), json!({ "method": "delayed" })).await;
    world.until_recorded(&session).await;
    let completed = world.stripe_event("checkout.session.completed", &session).await;
    repeat(&world, &completed).await;
    assert_eq!(account.balance().await, 0);

    world.stripe(&format!("sessions/{session}/settle"), json!({ "succeed": true })).await;
    account.until_balance(10).await;
    repeat(&world, &world.stripe_event("checkout.session.async_payment_succeeded", &session).await).await;
    repeat(&world, &completed).await;
    assert_eq!((account.amounts("purchase").await, account.balance().await), (vec![10], 10));
}

#[stack_test]
async fn an_unpaid_checkout_grants_nothing(world: Arc<World>) {
    let account = world.account(3).await;
    let declined = account.checkout(10).await;
    world.stripe(&format!("sessions/{declined}/pay"), json!({ "method": "fail" })).await;
    let never = account.checkout(20).await;
    world.stripe(&format!("sessions/{never}/pay"), json!({ "method": "delayed" })).await;
    world.stripe(&format!("sessions/{never}/settle"), json!({ "succeed": false })).await;
    world.until_recorded(&account.id).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!((account.amounts("purchase").await, account.balance().await), (vec![], 3));
}

#[stack_test]
async fn paying_on_the_page_works_too(world: Arc<World>) {
    let account = world.account(0).await;
    let bought = account.purchase(&json!({ "amount": 1000 }), None).await.data(201);
    let page = bought["checkout_url"].as_str().unwrap();
    let html = world.http.get(page).send().await.unwrap().text().await.unwrap();
    assert!(html.contains("1000 Oslira credits") && html.contains("824.50 USD"), "{html}");
    let stay = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let paid = stay.post(page).send().await.unwrap();
    let back = format!("https://app.oslira.com/credits?checkout=success&session_id={}", bought["session_id"].as_str().unwrap());
    assert_eq!(paid.headers()["location"], back.as_str());
    account.until_balance(1000).await;
}

/// Both events report the same payment, in both orders, and 20 copies of both at once.
#[stack_test]
async fn either_event_of_a_payment_grants_it_and_both_do_once(world: Arc<World>) {
    for first in ["checkout.session.completed", "checkout.session.async_payment_succeeded"] {
        let account = world.account(0).await;
        let session = account.checkout(100).await;
        world.stripe("pause", json!({ "match": session })).await;
        world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
        let completed = world.stripe_event("checkout.session.completed", &session).await;
        let copy_of = |kind: &str, number: usize| {
            let mut event = completed.clone();
            event["type"] = json!(kind);
            event["id"] = json!(format!("evt_{first}_{number}_{session}"));
            event
        };
        world.send_event(&copy_of(first, 0)).await;
        account.until_balance(100).await;
        let both = ["checkout.session.completed", "checkout.session.async_payment_succeeded"];
        let events: Vec<Value> = (1..=20).map(|number| copy_of(both[number % 2], number)).collect();
        futures::future::join_all(events.iter().map(|event| world.send_event(event))).await;
        world.until_empty(Queue::StripeEvents).await;
        for event in &events {
            assert!(world.is_recorded(event).await);
        }
        assert_eq!((account.amounts("purchase").await, account.balance().await), (vec![100], 100));
        world.stripe("resume", json!({ "match": session })).await;
    }
}

async fn customer_of(account: &Account) -> Option<String> {
    account.world.db.value("SELECT stripe_customer_id FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await
}

/// An admission locks the account through its foreign key while it waits for the balance, which the event has locked. They must not deadlock.
#[stack_test]
async fn a_customer_is_recorded_while_other_transactions_refer_to_the_account(world: Arc<World>) {
    let account = world.account(0).await;
    let admission = world.db.connect().await;
    admission.batch_execute(&format!("BEGIN; SELECT 1 FROM accounts WHERE id = '{}' FOR KEY SHARE", account.id)).await.unwrap();
    let customer = account.customer().await;
    assert_eq!(customer_of(&account).await, Some(customer));
    admission.batch_execute("ROLLBACK").await.unwrap();
}

#[stack_test]
async fn purchases_that_race_share_one_customer(world: Arc<World>) {
    let account = world.account(0).await;
    // The event about the customer is delayed, so that every purchase requests one.
    world.stripe("pause", json!({ "match": account.id })).await;
    let sessions = futures::future::join_all((0..10).map(|_| account.checkout(10))).await;
    let mut customers = Vec::new();
    for session in &sessions {
        let session = world.stripe_object(&format!("checkout/sessions/{session}")).await;
        customers.push(session["customer"].as_str().unwrap().to_owned());
    }
    customers.dedup();
    assert_eq!(customers.len(), 1, "{customers:?}");
    let requests = || async {
        let calls = world.calls("stripe", &format!("customer:{}", account.id)).await;
        (calls.iter().filter(|call| call["outcome"] == "ok").count(), calls.len())
    };
    let before = requests().await;
    assert_eq!(before.0, 1);
    assert_eq!(customer_of(&account).await, None);
    assert_eq!(world.stripe_events(&account.id).await.iter().filter(|event| event["type"] == "customer.created").count(), 1);

    world.stripe("resume", json!({ "match": account.id, "send_held": true })).await;
    world.until_recorded(&account.id).await;
    assert_eq!(customer_of(&account).await.as_ref(), customers.first());
    let later = account.checkout(10).await;
    let later = world.stripe_object(&format!("checkout/sessions/{later}")).await;
    assert_eq!(later["customer"].as_str(), customers.first().map(String::as_str));
    assert_eq!(requests().await, before);
}

#[stack_test]
async fn amounts_are_checked(world: Arc<World>) {
    let account = world.account(0).await;
    for body in [
        json!({ "amount": 9 }),
        json!({ "amount": 10_001 }),
        json!({ "amount": 0 }),
        json!({ "amount": -10 }),
        json!({ "amount": "10" }),
        json!({ "amount": 10.5 }),
        json!({ "amount": null }),
        json!({}),
        json!({ "amount": 10, "price": 1 }),
        json!([]),
    ] {
        account.purchase(&body, None).await.problem(400, "VALIDATION_ERROR");
    }
    assert_eq!(world.calls("stripe", &account.id).await, Vec::<Value>::new());
    for amount in [10, 10_000] {
        account.purchase(&json!({ "amount": amount }), None).await.data(201);
    }
}

#[stack_test]
async fn a_viewer_buys_nothing(world: Arc<World>) {
    let (account, viewer) = (world.account(0).await, world.account(0).await);
    account.admit_member(&viewer, "viewer").await;
    let request = |to: &Account| {
        let request = world.http.post(world.url("/api/credits/purchase")).bearer_auth(&viewer.token).header("x-account-id", &to.id);
        world.send(request.json(&json!({ "amount": 10 })))
    };
    request(&account).await.problem(403, "FORBIDDEN");
    let other = world.account(0).await;
    request(&other).await.problem(403, "FORBIDDEN");
    request(&viewer).await.data(201);
    assert_eq!(world.calls("stripe", &account.id).await, Vec::<Value>::new());
    assert_eq!(world.calls("stripe", &other.id).await, Vec::<Value>::new());
}
