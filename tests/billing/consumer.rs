//! The consumer of Stripe's events: kills, invalid messages, redrives and throughput.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use crate::harness::{Account, Queue, Value, World, json, stack_test, until};

const TIMEOUT: Duration = Duration::from_mins(1);

#[stack_test(alone)]
async fn a_consumer_killed_in_its_transaction_leaves_nothing_incomplete(world: Arc<World>) {
    world.set_visibility_timeout(Queue::StripeEvents, 3).await;
    let account = world.account(5).await;
    let session = account.checkout(10).await;
    // The customer's event is recorded first, so that only the payment is outstanding.
    world.until_recorded(&account.id).await;
    // A payment's last write. Event, grant and balance are written before it.
    let holder = world.db.connect().await;
    let lock = "BEGIN; LOCK TABLE stripe_payments IN SHARE MODE";
    holder.batch_execute(lock).await.unwrap();
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    let event = world.stripe_event("checkout.session.completed", &session).await;
    world.until_waiting("apply_stripe_event").await;
    assert!(world.kill_function("stripe_events").await > 0);
    // The server notices a client's death only when it sends a response, so the statement is ended as a restart of the pooler would.
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE position('apply_stripe_event' in query) > 0 AND pid <> pg_backend_pid()";
    assert!(world.db.value::<i64>(ended, &[]).await >= Some(1));
    assert!(!world.is_recorded(&event).await);
    assert_eq!((account.balance().await, account.amounts("purchase").await), (5, vec![]));
    holder.batch_execute("COMMIT").await.unwrap();
    account.until_balance(15).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(account.amounts("purchase").await, [10]);
    assert!(world.is_recorded(&event).await);

    // The process is killed while the server completes its statement. It commits, and the redelivery finds the event recorded.
    let session = account.checkout(20).await;
    holder.batch_execute(lock).await.unwrap();
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    world.until_waiting("apply_stripe_event").await;
    assert!(world.kill_function("stripe_events").await > 0);
    holder.batch_execute("COMMIT").await.unwrap();
    account.until_balance(35).await;
    world.until_recorded(&session).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(account.amounts("purchase").await, [10, 20]);
    assert_eq!(world.messages_in(Queue::StripeEventsDeadLetters).await, 0);
    world.set_visibility_timeout(Queue::StripeEvents, 180).await;
}

/// Moves all dead letters back to the queue, as a redrive does.
async fn redrive(world: &World) -> usize {
    let (from, to) = (world.queue_url(Queue::StripeEventsDeadLetters), world.queue_url(Queue::StripeEvents));
    let mut moved = 0;
    while world.messages_in(Queue::StripeEventsDeadLetters).await > 0 {
        let received = world.sqs.receive_message().queue_url(from).max_number_of_messages(10).send().await.unwrap();
        for message in received.messages.unwrap_or_default() {
            world.sqs.send_message().queue_url(to).message_body(message.body.unwrap()).send().await.unwrap();
            world.sqs.delete_message().queue_url(from).receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
            moved += 1;
        }
    }
    moved
}

#[stack_test(alone)]
async fn invalid_messages_become_dead_letters_and_delay_no_others(world: Arc<World>) {
    world.set_visibility_timeout(Queue::StripeEvents, 1).await;
    let (broken, healthy) = (world.account(0).await, world.account(0).await);
    let (customer, _) = (broken.customer().await, healthy.customer().await);
    world.until_empty(Queue::StripeEvents).await;
    world.db.rows("UPDATE plans SET stripe_price_id = NULL WHERE id = 'enterprise'", &[]).await;
    // One batch has the invalid messages and a valid one.
    world.stripe("pause", json!({})).await;
    world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_enterprise" })).await;
    let poison: Vec<Value> = world.stripe_events(&customer).await.into_iter().filter(|event| event["type"] != "customer.created").collect();
    let session = healthy.checkout(10).await;
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    let good = world.stripe_event("checkout.session.completed", &session).await;
    let entry = |(id, event): (usize, &Value)| {
        SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(event.to_string()).build().unwrap()
    };
    let batch: Vec<_> = poison.iter().chain([&good]).enumerate().map(entry).collect();
    assert!(batch.len() <= 10);
    let started = Instant::now();
    world.sqs.send_message_batch().queue_url(world.queue_url(Queue::StripeEvents)).set_entries(Some(batch)).send().await.unwrap();
    healthy.until_balance(10).await;
    println!("a valid event among invalid messages: {:?}", started.elapsed());
    world.until_empty(Queue::StripeEvents).await;
    println!("invalid messages are dead letters after {:?}", started.elapsed());

    // The event of the price is recorded; those of the invoice and the charge are not.
    let stuck: Vec<&str> = poison
        .iter()
        .filter(|event| ["customer.subscription.created", "invoice.paid"].iter().any(|kind| event["type"] == *kind))
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(stuck.len(), 2);
    assert_eq!(world.messages_in(Queue::StripeEventsDeadLetters).await, 2);
    for event in &poison {
        assert_eq!(world.is_recorded(event).await, !stuck.contains(&event["id"].as_str().unwrap()), "{}", event["type"]);
    }
    assert_eq!(broken.balance().await, 0);
    let receives = world.stack.log_lines(Some("stripe_events")).await.unwrap();
    let tried = |id: &str| receives.iter().filter(|line| line.contains(id) && line.contains("TOO_EARLY")).count();
    for id in &stuck {
        assert!((5..=10).contains(&tried(id)), "{id} was tried {} times", tried(id));
    }

    world.db.rows("UPDATE plans SET stripe_price_id = 'price_enterprise' WHERE id = 'enterprise'", &[]).await;
    assert_eq!(redrive(&world).await, 2);
    broken.until_balance(1500).await;
    world.until_recorded(&customer).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!((broken.amounts("subscription_renewal").await, world.messages_in(Queue::StripeEventsDeadLetters).await), (vec![1500], 0));
    world.stripe("resume", json!({ "send_held": true })).await;
    world.until_recorded(&session).await;
    world.set_visibility_timeout(Queue::StripeEvents, 180).await;
}

#[stack_test(alone)]
async fn events_of_an_unknown_customer_wait_for_it(world: Arc<World>) {
    world.set_visibility_timeout(Queue::StripeEvents, 1).await;
    let account = world.account(0).await;
    world.stripe("pause", json!({ "match": account.id })).await;
    let customer = account.unrecorded_customer().await;
    world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_pro" })).await;
    let subscribed = world.stripe_event("customer.subscription.created", &customer).await;
    until("a try", TIMEOUT, || async {
        let lines = world.stack.log_lines(Some("stripe_events")).await.unwrap();
        lines.iter().any(|line| line.contains(subscribed["id"].as_str().unwrap()) && line.contains("TOO_EARLY")).then_some(())
    })
    .await;
    assert_eq!(account.balance().await, 0);
    world.stripe("resume", json!({ "match": account.id, "send_held": true })).await;
    account.until_balance(100).await;
    world.until_recorded(&customer).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!((account.amounts("subscription_renewal").await, world.messages_in(Queue::StripeEventsDeadLetters).await), (vec![100], 0));
    world.set_visibility_timeout(Queue::StripeEvents, 180).await;
}

/// Creates the event of a payment.
fn payment(account: &Account, number: usize) -> Value {
    let (session, intent) = (format!("cs_many_{}_{number}", account.id), format!("pi_many_{}_{number}", account.id));
    json!({
        "id": format!("evt_many_{}_{number}", account.id), "object": "event", "type": "checkout.session.completed",
        "api_version": "2026-10-28.endive", "created": 1_795_400_000,
        "data": { "object": {
            "id": session, "object": "checkout.session", "mode": "payment", "payment_status": "paid", "amount_subtotal": 970, "amount_total": 970,
            "currency": "usd", "customer": null, "client_reference_id": account.id, "payment_intent": intent,
            "metadata": { "kind": "credits", "account_id": account.id, "credits": "10", "total_cents": "970" }
        } }
    })
}

#[stack_test(alone)]
async fn five_hundred_events_are_recorded_in_time(world: Arc<World>) {
    const ACCOUNTS: usize = 25;
    const PAYMENTS: usize = 20;
    let accounts = futures::future::join_all((0..ACCOUNTS).map(|_| world.account(0))).await;
    // The events alternate between accounts, so that a batch has ten accounts.
    let events: Vec<Value> = (0..PAYMENTS).flat_map(|number| accounts.iter().map(move |account| payment(account, number))).collect();
    let recorded = || async {
        let sql = "SELECT count(*), extract(epoch FROM max(processed_at) - min(received_at))::float8 FROM webhook_events WHERE stripe_event_id LIKE 'evt\\_many\\_%'";
        let row = world.db.rows(sql, &[]).await.remove(0);
        (row.get::<_, i64>(0), row.get::<_, Option<f64>>(1))
    };
    let started = Instant::now();
    for batch in events.chunks(10) {
        let entry = |(id, event): (usize, &Value)| {
            SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(event.to_string()).build().unwrap()
        };
        let entries = batch.iter().enumerate().map(entry).collect();
        world.sqs.send_message_batch().queue_url(world.queue_url(Queue::StripeEvents)).set_entries(Some(entries)).send().await.unwrap();
    }
    let sent = started.elapsed();
    let took = until("500 recorded events", Duration::from_mins(2), || async {
        let (count, took) = recorded().await;
        (count == 500).then_some(took.unwrap())
    })
    .await;
    println!("500 events: enqueued in {sent:?}, recorded after {:?}, {:.0} events a second", started.elapsed(), 500.0 / took);
    for account in &accounts {
        assert_eq!(account.balance().await, 200);
    }
    assert!(500.0 / took > 10.0, "{took} s");
    world.until_empty(Queue::StripeEvents).await;
}
