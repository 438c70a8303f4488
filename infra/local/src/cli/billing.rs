//! `cargo local demo billing`: buys credits, from the checkout to the balance.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use console::style;
use local::StackInfo;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::Api;

const CREDITS: u32 = 100;
const POLL: Duration = Duration::from_millis(100);

pub(crate) async fn billing(info: &StackInfo) -> Result<()> {
    let http = super::http()?;
    let demo = local::create_account(&http, info, super::demo::SIGNUP_CREDITS).await?;
    let api = Api { http: &http, info, demo: &demo };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    println!("{}", style(format!("1. The price of {CREDITS} credits")).bold());
    let price = api.get(&format!("/api/credits/pricing?amount={CREDITS}")).await?;
    println!(
        "   {} - {} % = {}\n",
        usd(&price["subtotal_cents"]),
        price["discount_percent"].as_i64().unwrap_or_default(),
        usd(&price["total_cents"])
    );

    println!("{}", style("2. The purchase, sent twice with one Idempotency-Key").bold());
    let (key, body) = (Uuid::new_v4().to_string(), json!({"amount": CREDITS}));
    let session = api.post("/api/credits/purchase", &body, Some(&key)).await?;
    let again = api.post("/api/credits/purchase", &body, Some(&key)).await?;
    if session != again {
        bail!("the repeated request got another response");
    }
    println!("   {}\n   {}\n   balance {}\n", text(&session["session_id"]), text(&session["checkout_url"]), balance(&api).await?);

    println!("{}", style("3. The payment, whose event Stripe delivers repeatedly").bold());
    let session_id = text(&session["session_id"]);
    let stripe = format!("{}/_control/stripe", info.sandbox);
    let paid = http.post(format!("{stripe}/sessions/{session_id}/pay")).json(&json!({"method": "card"})).send().await?;
    paid.error_for_status().context("the sandbox rejects the payment")?;
    let patience = Instant::now() + Duration::from_mins(1);
    while balance(&api).await? == i64::from(super::demo::SIGNUP_CREDITS) {
        if Instant::now() > patience {
            bail!("the payment has not been processed in time: see `cargo local logs stripe_events`");
        }
        tokio::time::sleep(POLL).await;
    }
    let events: Value =
        http.get(format!("{stripe}/events?type=checkout.session.completed&object={session_id}")).send().await?.json().await?;
    let event = text(&events[0]["id"]);
    let delivered = http.post(format!("{stripe}/events/{event}/deliver")).json(&json!({"times": 5})).send().await?;
    let delivered: Value = delivered.error_for_status()?.json().await?;
    println!("   {event}, delivered five more times: {}\n   balance {}\n", delivered["statuses"], balance(&api).await?);

    println!("{}", style("4. The ledger").bold());
    super::demo::show_ledger(info, &demo).await
}

async fn balance(api: &Api<'_>) -> Result<i64> {
    let answer = api.get("/api/credits/balance").await?;
    answer["current_balance"].as_i64().context("no balance")
}

fn usd(cents: &Value) -> String {
    let cents = cents.as_i64().unwrap_or_default();
    format!("{}.{:02} USD", cents / 100, cents % 100)
}
