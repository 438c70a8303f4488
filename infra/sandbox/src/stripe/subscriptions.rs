//! Subscriptions of one price, and of another product's beside it, billed by the calendar month.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use serde_json::{Value, json};

use super::catalog;
use super::form::Params;
use super::invoices::{self, Period};
use super::ledger::{Ledger, id, list, now, number, text};
use super::problem::Problem;

/// The handling of the rest of a period that was paid at another price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proration {
    /// The next invoice has the difference.
    #[default]
    CreateProrations,
    /// An invoice bills the difference at once.
    AlwaysInvoice,
    /// The difference is ignored.
    None,
}

const PRORATIONS: [&str; 3] = ["create_prorations", "always_invoice", "none"];

fn span(price: &Value, times: i64) -> Span {
    let count = number(&price["recurring"], "interval_count").max(1) * times;
    match text(&price["recurring"], "interval") {
        "day" => count.days(),
        "week" => count.weeks(),
        "year" => count.years(),
        _ => count.months(),
    }
}

/// Returns the first end of a period after `start`, counted from the anchor: after a February the 31st is used again.
fn period_end(price: &Value, anchor: i64, start: i64) -> i64 {
    let Ok(anchor) = Timestamp::from_second(anchor) else { return start };
    let anchor = anchor.to_zoned(TimeZone::UTC);
    let ends = (1..10_000).filter_map(|times| anchor.checked_add(span(price, times)).ok()).map(|end| end.timestamp().as_second());
    ends.into_iter().find(|end| *end > start).unwrap_or(start)
}

/// The parameters of a new subscription.
#[derive(Debug)]
pub(super) struct NewSubscription<'a> {
    pub(super) customer: &'a str,
    pub(super) price: &'a Value,
    /// Another product, billed with the same period. Its item and its invoice line come first.
    pub(super) add_on: Option<&'a Value>,
    pub(super) metadata: &'a Value,
    pub(super) cancel_at_period_end: bool,
}

/// Returns the item of a subscription's plan, which is the last.
fn item_of(subscription: &Value) -> &Value {
    subscription["items"]["data"].as_array().and_then(|items| items.last()).unwrap_or(&Value::Null)
}

/// Returns a subscription's current price.
fn price_of(subscription: &Value) -> &Value {
    &item_of(subscription)["price"]
}

/// Returns the lines that bill all items of a subscription for a period.
fn lines(subscription: &Value, period: Period) -> Vec<Value> {
    let prices = subscription["items"]["data"].as_array().into_iter().flatten().map(|item| &item["price"]);
    prices.map(|price| invoices::line(subscription, price, number(price, "unit_amount"), period, false)).collect()
}

fn period_of(subscription: &Value) -> Period {
    let item = item_of(subscription);
    Period { start: number(item, "current_period_start"), end: number(item, "current_period_end") }
}

/// Starts a subscription and collects its first invoice. Returns its id and the invoice's.
pub(super) fn start(ledger: &mut Ledger, new: &NewSubscription<'_>) -> Result<(String, String), Problem> {
    let (subscription, start) = (id("sub"), now());
    let period = Period { start, end: period_end(new.price, start, start) };
    let item = |price: &Value| {
        json!({
            "id": id("si"), "object": "subscription_item", "billed_until": null, "billing_thresholds": null, "created": start,
            "current_period_end": period.end, "current_period_start": period.start, "discounts": [], "metadata": {},
            "plan": catalog::plan(price), "price": price, "quantity": 1, "subscription": subscription, "tax_rates": [],
        })
    };
    let items: Vec<Value> = new.add_on.into_iter().chain([new.price]).map(item).collect();
    ledger.insert(json!({
        "id": subscription, "object": "subscription", "application": null, "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null}, "billing_cycle_anchor": start,
        "billing_cycle_anchor_config": null, "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [], "billing_thresholds": null, "cancel_at": if new.cancel_at_period_end { json!(period.end) } else { Value::Null },
        "cancel_at_period_end": new.cancel_at_period_end,
        "canceled_at": if new.cancel_at_period_end { json!(start) } else { Value::Null },
        "cancellation_details": {"comment": null, "feedback": null, "reason": null}, "collection_method": "charge_automatically",
        "created": start, "currency": new.price["currency"], "customer": new.customer, "days_until_due": null,
        "default_payment_method": null, "default_source": null, "default_tax_rates": [], "description": null, "discounts": [],
        "ended_at": null, "invoice_settings": {"account_tax_ids": null, "issuer": {"type": "self"}},
        "items": list(&format!("/v1/subscription_items?subscription={subscription}"), &items), "latest_invoice": null,
        "livemode": false, "metadata": new.metadata, "next_pending_invoice_item_invoice": null, "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {"payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off"},
        "pending_invoice_item_interval": null, "pending_setup_intent": null, "pending_update": null, "schedule": null,
        "start_date": start, "status": "active", "test_clock": null, "transfer_data": null, "trial_end": null,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}}, "trial_start": null,
    }));
    let object = ledger.get("subscription", &subscription)?;
    let invoice = invoices::bill(ledger, &object, "subscription_create", lines(&object, period), Period { start, end: start });
    ledger.set(&subscription, &json!({"latest_invoice": invoice}));
    ledger.emit("customer.subscription.created", &subscription, None);
    invoices::announce(ledger, &invoice);
    invoices::collect(ledger, &invoice, true)?;
    Ok((subscription, invoice))
}

/// Returns a price that a subscription can have.
pub(super) fn recurring_price(ledger: &Ledger, price: &str, param: &str) -> Result<Value, Problem> {
    let price = ledger.referenced("price", price, param)?;
    if price["type"] == "recurring" {
        Ok(price)
    } else {
        Err(Problem::invalid(format!("The price {} is not a recurring price.", text(&price, "id")), None, Some(param)))
    }
}

/// `POST /v1/subscriptions`.
pub(super) fn create(ledger: &mut Ledger, _: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&[
        "customer",
        "items/#/price",
        "items/#/quantity",
        "metadata/*",
        "cancel_at_period_end",
        "description",
        "payment_behavior",
    ])?;
    let customer = params.required("/customer")?;
    ledger.referenced("customer", customer, "customer")?;
    let price = recurring_price(ledger, params.required("/items/0/price")?, "items[0][price]")?;
    if params.members("/items")?.len() > 1 || params.integer("/items/0/quantity", 1, 1)?.is_some_and(|quantity| quantity != 1) {
        return Err(Problem::invalid("The sandbox has subscriptions of one item with quantity 1.", None, Some("items")));
    }
    params.one_of("/payment_behavior", &["allow_incomplete", "error_if_incomplete"])?;
    let mut metadata = json!({});
    params.metadata("/metadata", &mut metadata)?;
    let cancel_at_period_end = params.boolean("/cancel_at_period_end")?.unwrap_or(false);
    let (id, _) = start(ledger, &NewSubscription { customer, price: &price, add_on: None, metadata: &metadata, cancel_at_period_end })?;
    ledger.get("subscription", &id)
}

/// Returns a subscription that has not ended.
pub(super) fn living(ledger: &Ledger, id: &str) -> Result<Value, Problem> {
    let subscription = ledger.get("subscription", id)?;
    if subscription["status"] == "canceled" { Err(Problem::not_found("subscription", id)) } else { Ok(subscription) }
}

/// `POST /v1/subscriptions/{id}`.
pub(super) fn update(ledger: &mut Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&["items/#/id", "items/#/price", "cancel_at_period_end", "proration_behavior", "metadata/*", "description"])?;
    let before = living(ledger, id)?;
    let proration = match params.one_of("/proration_behavior", &PRORATIONS)? {
        Some("always_invoice") => Proration::AlwaysInvoice,
        Some("none") => Proration::None,
        _ => Proration::CreateProrations,
    };
    let price = match params.members("/items")?.as_slice() {
        [] => None,
        [item] => {
            // An item without an id would be added to the existing one.
            if params.required(&format!("{item}/id"))? != text(item_of(&before), "id") {
                return Err(Problem::unknown_reference("subscription_item", params.required(&format!("{item}/id"))?, "items[0][id]"));
            }
            params.text(&format!("{item}/price"))?.map(|price| recurring_price(ledger, price, "items[0][price]")).transpose()?
        }
        _ => return Err(Problem::invalid("The sandbox has subscriptions of one item.", None, Some("items"))),
    };
    let cancel = params.boolean("/cancel_at_period_end")?;
    let mut metadata = before["metadata"].clone();
    params.metadata("/metadata", &mut metadata)?;
    let description = params.text("/description")?.map(str::to_owned);
    ledger.set(id, &json!({"metadata": metadata}));
    if let Some(description) = description {
        ledger.set(id, &json!({"description": description}));
    }
    if let Some(cancel) = cancel {
        mark(ledger, id, cancel, cancel);
    }
    change(ledger, &before, price.as_ref(), proration)?;
    ledger.get("subscription", id)
}

/// Schedules or cancels the end of a subscription with its period. `flag` sets `cancel_at_period_end` too, which the customer portal does not
/// do with flexible billing.
fn mark(ledger: &mut Ledger, id: &str, cancel: bool, flag: bool) {
    ledger.change(id, |subscription| {
        let end = period_of(subscription).end;
        subscription["cancel_at_period_end"] = json!(flag);
        subscription["cancel_at"] = if cancel { json!(end) } else { Value::Null };
        subscription["canceled_at"] = if cancel { json!(now()) } else { Value::Null };
        subscription["cancellation_details"]["reason"] = if cancel { json!("cancellation_requested") } else { Value::Null };
    });
}

/// Changes the price of a subscription and emits the events of everything that changed since `before`.
pub(super) fn change(ledger: &mut Ledger, before: &Value, price: Option<&Value>, proration: Proration) -> Result<(), Problem> {
    let (id, old, period) = (text(before, "id"), price_of(before), period_of(before));
    let mut invoice = None;
    if let Some(price) = price.filter(|price| price["id"] != old["id"]) {
        ledger.change(id, |subscription| {
            if let Some(item) = subscription["items"]["data"].as_array_mut().and_then(|items| items.last_mut()) {
                item["price"] = price.clone();
                item["plan"] = catalog::plan(price);
            }
        });
        let now = now();
        let rest = Period { start: now, end: period.end };
        let share = |price: &Value| {
            let whole = (period.end - period.start).max(1);
            (number(price, "unit_amount") * (period.end - now).clamp(0, whole) + whole / 2) / whole
        };
        let lines = [invoices::line(before, old, -share(old), rest, true), invoices::line(before, price, share(price), rest, true)];
        match proration {
            Proration::None => {}
            Proration::CreateProrations => {
                let mut pending = ledger.kept(id).as_array().cloned().unwrap_or_default();
                pending.extend(lines);
                ledger.keep(id, Value::Array(pending));
            }
            Proration::AlwaysInvoice => {
                let new = invoices::bill(ledger, before, "subscription_update", lines.to_vec(), Period { start: now, end: now });
                ledger.set(id, &json!({"latest_invoice": new}));
                invoice = Some(new);
            }
        }
    }
    emit_update(ledger, before)?;
    if let Some(invoice) = invoice {
        invoices::announce(ledger, &invoice);
        invoices::collect(ledger, &invoice, true)?;
    }
    Ok(())
}

/// Emits `customer.subscription.updated` if anything differs from `before`.
fn emit_update(ledger: &mut Ledger, before: &Value) -> Result<(), Problem> {
    let id = text(before, "id");
    let previous = super::ledger::changes(before, &ledger.get("subscription", id)?);
    if previous.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(());
    }
    ledger.emit("customer.subscription.updated", id, Some(previous));
    Ok(())
}

/// Starts the next period: ends the subscription if that is scheduled, or bills it and returns the invoice's id.
pub(super) fn renew(ledger: &mut Ledger, id: &str, succeed: bool) -> Result<Option<String>, Problem> {
    let before = living(ledger, id)?;
    let (price, last) = (price_of(&before).clone(), period_of(&before));
    if before["cancel_at"].as_i64().is_some_and(|cancel_at| cancel_at <= last.end) {
        end(ledger, id)?;
        return Ok(None);
    }
    let period = Period { start: last.end, end: period_end(&price, number(&before, "billing_cycle_anchor"), last.end) };
    ledger.change(id, |subscription| {
        for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
            item["current_period_start"] = json!(period.start);
            item["current_period_end"] = json!(period.end);
        }
    });
    let mut billed = ledger.kept(id).as_array().cloned().unwrap_or_default();
    ledger.keep(id, Value::Null);
    billed.extend(lines(&before, period));
    let invoice = invoices::bill(ledger, &before, "subscription_cycle", billed, last);
    ledger.set(id, &json!({"latest_invoice": invoice}));
    invoices::announce(ledger, &invoice);
    emit_update(ledger, &before)?;
    collect(ledger, &invoice, succeed)?;
    Ok(Some(invoice))
}

/// Collects an invoice and makes its subscription active or past due.
pub(super) fn collect(ledger: &mut Ledger, invoice: &str, succeed: bool) -> Result<(), Problem> {
    let paid = invoices::collect(ledger, invoice, succeed)?;
    let subscription = text(&ledger.get("invoice", invoice)?["parent"]["subscription_details"], "subscription").to_owned();
    let before = ledger.get("subscription", &subscription)?;
    if before["status"] != "canceled" && before["latest_invoice"] == invoice {
        ledger.set(&subscription, &json!({"status": if paid { "active" } else { "past_due" }}));
        emit_update(ledger, &before)?;
    }
    Ok(())
}

/// Ends a subscription now.
pub(super) fn end(ledger: &mut Ledger, id: &str) -> Result<Value, Problem> {
    let before = living(ledger, id)?;
    let canceled_at = if before["canceled_at"].is_null() { json!(now()) } else { before["canceled_at"].clone() };
    ledger.change(id, |subscription| {
        for (field, value) in [("status", json!("canceled")), ("canceled_at", canceled_at), ("ended_at", json!(now()))] {
            subscription[field] = value;
        }
        subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
    });
    ledger.emit("customer.subscription.deleted", id, None);
    ledger.get("subscription", id)
}

/// Pauses a subscription, or resumes a paused one.
pub(super) fn pause(ledger: &mut Ledger, id: &str, paused: bool) -> Result<Value, Problem> {
    let before = living(ledger, id)?;
    if (before["status"] == "paused") == paused {
        return Err(Problem::invalid(format!("The subscription {id} is {}.", text(&before, "status")), None, None));
    }
    ledger.set(id, &json!({"status": if paused { "paused" } else { "active" }}));
    ledger.emit(if paused { "customer.subscription.paused" } else { "customer.subscription.resumed" }, id, None);
    ledger.get("subscription", id)
}

/// Ends a subscription with its period, as the customer portal does: with flexible billing it sets `cancel_at` alone.
pub(super) fn end_with_period(ledger: &mut Ledger, id: &str) -> Result<Value, Problem> {
    let before = living(ledger, id)?;
    mark(ledger, id, true, false);
    emit_update(ledger, &before)?;
    ledger.get("subscription", id)
}

/// `DELETE /v1/subscriptions/{id}`.
pub(super) fn cancel(ledger: &mut Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&["invoice_now", "prorate", "cancellation_details/comment", "cancellation_details/feedback"])?;
    end(ledger, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_of_a_month_is_used_again_after_a_shorter_month() {
        let price = json!({"recurring": {"interval": "month", "interval_count": 1}});
        let second = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        let anchor = second("2027-01-31T10:00:00Z");
        let february = period_end(&price, anchor, anchor);
        assert_eq!(february, second("2027-02-28T10:00:00Z"));
        assert_eq!(period_end(&price, anchor, february), second("2027-03-31T10:00:00Z"));
    }
}
