//! Invoices of subscriptions and their payments.

use serde_json::{Value, json};

use super::customers;
use super::ledger::{Ledger, id, list, now, number, text};
use super::payments::{self, End, Payment};
use super::problem::Problem;

/// The time after which Stripe retries a failed payment.
const NEXT_TRY: i64 = 3 * 24 * 3600;

/// A span of time, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// Returns the invoice line of a subscription's item with this price, else of its first one.
pub(super) fn line(subscription: &Value, price: &Value, cents: i64, period: Period, proration: bool) -> Value {
    let items = subscription["items"]["data"].as_array();
    let item = items.and_then(|items| items.iter().find(|item| item["price"]["id"] == price["id"]));
    let item = item.unwrap_or(&subscription["items"]["data"][0]);
    let details = if proration { json!({"credited_items": null}) } else { Value::Null };
    let description = match (proration, cents < 0) {
        (false, _) => format!("1 × {} (monthly)", text(price, "id")),
        (true, true) => format!("Unused time on {}", text(price, "id")),
        (true, false) => format!("Remaining time on {}", text(price, "id")),
    };
    json!({
        "id": id("il"), "object": "line_item", "amount": cents, "currency": price["currency"], "description": description,
        "discount_amounts": [], "discountable": !proration, "discounts": [], "invoice": null, "livemode": false,
        "metadata": subscription["metadata"],
        "parent": {"invoice_item_details": null, "subscription_item_details": {"invoice_item": null, "proration": proration,
            "proration_details": details, "subscription": subscription["id"], "subscription_item": item["id"]},
            "type": "subscription_item_details"},
        "period": {"end": period.end, "start": period.start}, "pretax_credit_amounts": [],
        "pricing": {"price_details": {"price": price["id"], "product": price["product"]}, "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"]},
        "quantity": 1, "quantity_decimal": "1", "subscription": subscription["id"], "subtotal": cents, "taxes": [],
    })
}

/// Adds a finalized, unpaid invoice to a subscription and returns its id. The caller emits its events with [`announce`].
pub(super) fn bill(ledger: &mut Ledger, subscription: &Value, reason: &str, mut lines: Vec<Value>, period: Period) -> String {
    let invoice = id("in");
    let total: i64 = lines.iter().map(|line| number(line, "amount")).sum();
    let customer = ledger.any(text(subscription, "customer")).cloned().unwrap_or_default();
    for line in &mut lines {
        line["invoice"] = json!(invoice);
    }
    let sequence = number(&customer, "next_invoice_sequence");
    // A negative total becomes the customer's credit and lowers the next invoices.
    let credit = number(&customer, "balance");
    let balance = (credit + total).min(0);
    ledger.set(text(&customer, "id"), &json!({"next_invoice_sequence": sequence + 1, "currency": subscription["currency"]}));
    if balance != credit {
        customers::move_balance(ledger, &customer, balance - credit, Some(&invoice));
    }
    let hosted = format!("{}/invoices/{invoice}", ledger.site);
    let due = (total + credit).max(0);
    ledger.insert(json!({
        "id": invoice, "object": "invoice", "account_country": "US", "account_name": "Sandbox", "account_tax_ids": null,
        "amount_due": due, "amount_overpaid": 0, "amount_paid": 0, "amount_remaining": due, "amount_shipping": 0, "application": null,
        "attempt_count": 0, "attempted": false, "auto_advance": true,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null},
        "automatically_finalizes_at": null, "billing_reason": reason, "collection_method": "charge_automatically", "created": now(),
        "currency": subscription["currency"], "custom_fields": null, "customer": customer["id"], "customer_address": null,
        "customer_email": customer["email"], "customer_name": customer["name"], "customer_phone": customer["phone"],
        "customer_shipping": null, "customer_tax_exempt": "none", "customer_tax_ids": [], "default_payment_method": null,
        "default_source": null, "default_tax_rates": [], "description": null, "discounts": [], "due_date": null, "effective_at": now(),
        "ending_balance": balance, "footer": null, "from_invoice": null, "hosted_invoice_url": hosted,
        "invoice_pdf": format!("{hosted}/pdf"), "issuer": {"type": "self"}, "last_finalization_error": null, "latest_revision": null,
        "lines": list(&format!("/v1/invoices/{invoice}/lines"), &lines), "livemode": false, "metadata": {},
        "next_payment_attempt": null, "number": format!("{}-{sequence:04}", text(&customer, "invoice_prefix")), "on_behalf_of": null,
        "parent": {"quote_details": null, "subscription_details": {"metadata": subscription["metadata"],
            "subscription": subscription["id"]}, "type": "subscription_details"},
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "period_end": period.end, "period_start": period.start, "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": null, "rendering": null, "shipping_cost": null, "shipping_details": null,
        "starting_balance": credit, "statement_descriptor": null, "status": "open",
        "status_transitions": {"finalized_at": now(), "marked_uncollectible_at": null, "paid_at": null, "voided_at": null},
        "subtotal": total, "subtotal_excluding_tax": total, "test_clock": null, "total": total, "total_discount_amounts": [],
        "total_excluding_tax": total, "total_pretax_credit_amounts": [], "total_taxes": [], "webhooks_delivered_at": null,
    }))
}

/// Emits the events of a new invoice.
pub(super) fn announce(ledger: &mut Ledger, invoice: &str) {
    ledger.emit("invoice.created", invoice, None);
}

/// Returns the payment of an invoice, if there was an attempt.
pub(super) fn payment_of(ledger: &Ledger, invoice: &str) -> Option<Value> {
    ledger.all("invoice_payment").find(|payment| payment["invoice"] == invoice).cloned()
}

/// Records that an open invoice was paid outside of Stripe.
pub(super) fn paid_outside(ledger: &mut Ledger, invoice: &str) -> Result<Value, Problem> {
    let object = ledger.get("invoice", invoice)?;
    if object["status"] != "open" {
        return Err(Problem::invalid(format!("Invoice {invoice} is {}.", text(&object, "status")), Some("invoice_not_payable"), None));
    }
    ledger.set(invoice, &json!({"status": "paid", "amount_remaining": 0, "auto_advance": false, "next_payment_attempt": null}));
    ledger.change(invoice, |stored| stored["status_transitions"]["paid_at"] = json!(now()));
    ledger.emit("invoice.paid", invoice, None);
    ledger.get("invoice", invoice)
}

/// Attempts to collect an open invoice and returns whether it is paid.
pub(super) fn collect(ledger: &mut Ledger, invoice: &str, succeed: bool) -> Result<bool, Problem> {
    let object = ledger.get("invoice", invoice)?;
    if object["status"] != "open" {
        return Err(Problem::invalid(format!("Invoice {invoice} is {}.", text(&object, "status")), Some("invoice_not_payable"), None));
    }
    let due = number(&object, "amount_remaining");
    let attempts = number(&object, "attempt_count") + 1;
    if due > 0 {
        charge(ledger, &object, due, succeed);
    }
    if due > 0 && !succeed {
        let tried = json!({"attempt_count": attempts, "attempted": true, "next_payment_attempt": now() + NEXT_TRY});
        ledger.set(invoice, &tried);
        ledger.emit("invoice.payment_failed", invoice, None);
        return Ok(false);
    }
    ledger.change(invoice, |stored| {
        let paid = json!({"status": "paid", "amount_paid": due, "amount_remaining": 0, "attempt_count": attempts, "attempted": true,
            "auto_advance": false, "next_payment_attempt": null});
        for (name, value) in paid.as_object().into_iter().flatten() {
            stored[name.as_str()] = value.clone();
        }
        stored["status_transitions"]["paid_at"] = json!(now());
    });
    ledger.emit("invoice.paid", invoice, None);
    Ok(true)
}

/// Ends the collection of an open invoice: `void` if it is not owed, `uncollectible` if it is.
pub(super) fn give_up(ledger: &mut Ledger, invoice: &str, status: &str) -> Result<Value, Problem> {
    let object = ledger.get("invoice", invoice)?;
    if object["status"] != "open" {
        return Err(Problem::invalid(format!("Invoice {invoice} is {}.", text(&object, "status")), Some("invoice_not_payable"), None));
    }
    let (transition, event) = match status {
        "void" => ("voided_at", "invoice.voided"),
        _ => ("marked_uncollectible_at", "invoice.marked_uncollectible"),
    };
    ledger.change(invoice, |stored| {
        stored["status"] = json!(status);
        stored["auto_advance"] = json!(false);
        stored["next_payment_attempt"] = Value::Null;
        stored["status_transitions"][transition] = json!(now());
    });
    ledger.emit(event, invoice, None);
    ledger.get("invoice", invoice)
}

/// Charges for an invoice, with the payment intent of an earlier attempt if there was one.
fn charge(ledger: &mut Ledger, invoice: &Value, due: i64, succeed: bool) {
    let earlier = payment_of(ledger, text(invoice, "id"));
    let intent = match &earlier {
        Some(payment) => text(&payment["payment"], "payment_intent").to_owned(),
        None => payments::intend(
            ledger,
            &Payment {
                cents: due,
                currency: text(invoice, "currency"),
                customer: invoice["customer"].as_str(),
                email: invoice["customer_email"].as_str(),
                description: Some("Subscription"),
                metadata: &json!({}),
            },
        ),
    };
    let payment = match earlier {
        Some(payment) => text(&payment, "id").to_owned(),
        None => ledger.insert(json!({
            "id": id("inpay"), "object": "invoice_payment", "amount_paid": null, "amount_requested": due, "created": now(),
            "currency": invoice["currency"], "invoice": invoice["id"], "is_default": true, "livemode": false,
            "payment": {"payment_intent": intent, "type": "payment_intent"}, "status": "open",
            "status_transitions": {"canceled_at": null, "paid_at": null},
        })),
    };
    if succeed {
        let paid = json!({"amount_paid": due, "status": "paid", "status_transitions": {"canceled_at": null, "paid_at": now()}});
        ledger.set(&payment, &paid);
    }
    payments::attempt(ledger, &intent, if succeed { End::Succeeded } else { End::Declined });
}
