//! The consumer of Stripe's events: killed, fed with poison, redriven, and how fast it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use crate::harness::{Account, Feed, Value, World, cases, json, until};

cases!(
    shared: ;
    alone: a_consumer_killed_in_its_transaction_leaves_nothing_half_done, poison_goes_to_the_dead_letters_and_holds_up_nobody,
        events_of_a_customer_that_is_not_known_yet_wait_for_it, five_hundred_events_are_taken_in_good_time
);

const PATIENCE: Duration = Duration::from_mins(1);

async fn a_consumer_killed_in_its_transaction_leaves_nothing_half_done(world: Arc<World>) {
    world.set_visibility_timeout(3).await;
    let account = world.account(5).await;
    let session = account.checkout(10).await;
    // The customer is told of first, so that only the payment is left to wait for.
    world.until_booked(&account.id).await;
    // The last that a payment writes: event, grant and balance are written by then.
    let holder = world.db.connect().await;
    let lock = "BEGIN; LOCK TABLE stripe_payments IN SHARE MODE";
    holder.batch_execute(lock).await.unwrap();
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    let event = world.stripe_event("checkout.session.completed", &session).await;
    world.until_waiting("apply_stripe_event").await;
    assert!(world.kill_function("stripe_events").await > 0);
    // The server notices a client's death only when it wants to answer: end its statement as a restart of the pooler would.
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE position('apply_stripe_event' in query) > 0 AND pid <> pg_backend_pid()";
    assert!(world.db.value::<i64>(ended, &[]).await >= Some(1));
    assert!(!world.is_booked(&event).await);
    assert_eq!((account.balance().await, account.amounts("purchase").await), (5, vec![]));
    holder.batch_execute("COMMIT").await.unwrap();
    account.until_balance(15).await;
    world.until_drained().await;
    assert_eq!(account.amounts("purchase").await, [10]);
    assert!(world.is_booked(&event).await);

    // Killed while the statement lives on at the server: it commits, and the redelivery finds it done.
    let session = account.checkout(20).await;
    holder.batch_execute(lock).await.unwrap();
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    world.until_waiting("apply_stripe_event").await;
    assert!(world.kill_function("stripe_events").await > 0);
    holder.batch_execute("COMMIT").await.unwrap();
    account.until_balance(35).await;
    world.until_booked(&session).await;
    world.until_drained().await;
    assert_eq!(account.amounts("purchase").await, [10, 20]);
    assert_eq!(world.waiting(Feed::DeadLetters).await, 0);
    world.set_visibility_timeout(180).await;
}

/// Takes everything out of the dead letters and puts it back into the queue, as a redrive does.
async fn redrive(world: &World) -> usize {
    let (from, to) = (world.queue_url(Feed::DeadLetters), world.queue_url(Feed::Events));
    let mut moved = 0;
    while world.waiting(Feed::DeadLetters).await > 0 {
        let received = world.sqs.receive_message().queue_url(from).max_number_of_messages(10).send().await.unwrap();
        for message in received.messages.unwrap_or_default() {
            world.sqs.send_message().queue_url(to).message_body(message.body.unwrap()).send().await.unwrap();
            world.sqs.delete_message().queue_url(from).receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
            moved += 1;
        }
    }
    moved
}

async fn poison_goes_to_the_dead_letters_and_holds_up_nobody(world: Arc<World>) {
    world.set_visibility_timeout(1).await;
    let (broken, healthy) = (world.account(0).await, world.account(0).await);
    let (customer, _) = (broken.customer().await, healthy.customer().await);
    world.until_drained().await;
    world.db.rows("UPDATE plans SET stripe_price_id = NULL WHERE id = 'enterprise'", &[]).await;
    // In one batch: the poison and what is good.
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
    world.sqs.send_message_batch().queue_url(world.queue_url(Feed::Events)).set_entries(Some(batch)).send().await.unwrap();
    healthy.until_balance(10).await;
    println!("a good event among poison: {:?}", started.elapsed());
    world.until_drained().await;
    println!("poison in the dead letters after {:?}", started.elapsed());

    // What is about the price is there; the invoice and the charge beside it are not.
    let stuck: Vec<&str> = poison
        .iter()
        .filter(|event| ["customer.subscription.created", "invoice.paid"].iter().any(|kind| event["type"] == *kind))
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(stuck.len(), 2);
    assert_eq!(world.waiting(Feed::DeadLetters).await, 2);
    for event in &poison {
        assert_eq!(world.is_booked(event).await, !stuck.contains(&event["id"].as_str().unwrap()), "{}", event["type"]);
    }
    assert_eq!(broken.balance().await, 0);
    let receives = world.stack.log_lines(Some("stripe_events")).await.unwrap();
    let tried = |id: &str| receives.iter().filter(|line| line.contains(id) && line.contains("too early")).count();
    for id in &stuck {
        assert!((5..=10).contains(&tried(id)), "{id} was tried {} times", tried(id));
    }

    world.db.rows("UPDATE plans SET stripe_price_id = 'price_enterprise' WHERE id = 'enterprise'", &[]).await;
    assert_eq!(redrive(&world).await, 2);
    broken.until_balance(1500).await;
    world.until_booked(&customer).await;
    world.until_drained().await;
    assert_eq!((broken.amounts("subscription_renewal").await, world.waiting(Feed::DeadLetters).await), (vec![1500], 0));
    world.stripe("resume", json!({ "send_held": true })).await;
    world.until_booked(&session).await;
    world.set_visibility_timeout(180).await;
}

async fn events_of_a_customer_that_is_not_known_yet_wait_for_it(world: Arc<World>) {
    world.set_visibility_timeout(1).await;
    let account = world.account(0).await;
    world.stripe("pause", json!({ "match": account.id })).await;
    let customer = account.unknown_customer().await;
    world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_pro" })).await;
    let subscribed = world.stripe_event("customer.subscription.created", &customer).await;
    until("a try", PATIENCE, || async {
        let lines = world.stack.log_lines(Some("stripe_events")).await.unwrap();
        lines.iter().any(|line| line.contains(subscribed["id"].as_str().unwrap()) && line.contains("too early")).then_some(())
    })
    .await;
    assert_eq!(account.balance().await, 0);
    world.stripe("resume", json!({ "match": account.id, "send_held": true })).await;
    account.until_balance(100).await;
    world.until_booked(&customer).await;
    world.until_drained().await;
    assert_eq!((account.amounts("subscription_renewal").await, world.waiting(Feed::DeadLetters).await), (vec![100], 0));
    world.set_visibility_timeout(180).await;
}

/// A payment as Stripe tells of it, of our own making.
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

async fn five_hundred_events_are_taken_in_good_time(world: Arc<World>) {
    const ACCOUNTS: usize = 25;
    const PAYMENTS: usize = 20;
    let accounts = futures::future::join_all((0..ACCOUNTS).map(|_| world.account(0))).await;
    // One after the other, so that a batch is of ten accounts.
    let events: Vec<Value> = (0..PAYMENTS).flat_map(|number| accounts.iter().map(move |account| payment(account, number))).collect();
    let booked = || async {
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
        world.sqs.send_message_batch().queue_url(world.queue_url(Feed::Events)).set_entries(Some(entries)).send().await.unwrap();
    }
    let sent = started.elapsed();
    let took = until("500 events in the books", Duration::from_mins(2), || async {
        let (count, took) = booked().await;
        (count == 500).then_some(took.unwrap())
    })
    .await;
    println!("500 events: enqueued in {sent:?}, in the books after {:?}, {:.0} events a second", started.elapsed(), 500.0 / took);
    for account in &accounts {
        assert_eq!(account.balance().await, 200);
    }
    assert!(500.0 / took > 10.0, "{took} s");
    world.until_drained().await;
}
