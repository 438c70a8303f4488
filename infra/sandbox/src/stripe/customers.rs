//! Customers.

use serde_json::{Value, json};

use super::form::Params;
use super::ledger::{Ledger, id, now, number, text};
use super::problem::Problem;

const FIELDS: [&str; 4] = ["email", "name", "phone", "description"];
const KNOWN: [&str; 11] = [
    "email",
    "name",
    "phone",
    "description",
    "metadata/*",
    "address/*",
    "preferred_locales/#",
    "tax_exempt",
    "payment_method",
    "invoice_settings/default_payment_method",
    "source",
];

/// Adds a customer who pays by card.
pub(super) fn made(email: Option<&str>, metadata: &Value) -> Value {
    let prefix = super::ledger::id("x").to_ascii_uppercase();
    json!({
        "id": id("cus"), "object": "customer", "address": null, "balance": 0, "created": now(), "currency": null, "default_source": null,
        "delinquent": false, "description": null, "discount": null, "email": email,
        "invoice_prefix": prefix.get(2..10).unwrap_or("SANDBOX1"),
        "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null},
        "livemode": false, "metadata": metadata, "name": null, "next_invoice_sequence": 1, "phone": null, "preferred_locales": [],
        "shipping": null, "tax_exempt": "none", "test_clock": null,
    })
}

/// Moves the balance of a customer, whose credit is negative. `invoice` is the one that takes from it or adds to it.
pub(super) fn move_balance(ledger: &mut Ledger, customer: &Value, amount: i64, invoice: Option<&str>) {
    let ending = number(customer, "balance") + amount;
    let previous = ledger.set(text(customer, "id"), &json!({"balance": ending}));
    ledger.insert(json!({
        "id": id("cbtxn"), "object": "customer_balance_transaction", "amount": amount, "checkout_session": null, "created": now(),
        "credit_note": null, "currency": "usd", "customer": customer["id"], "description": null, "ending_balance": ending,
        "invoice": invoice, "livemode": false, "metadata": {}, "type": if invoice.is_some() { "applied_to_invoice" } else { "adjustment" },
    }));
    if invoice.is_none() {
        ledger.emit("customer.updated", text(customer, "id"), Some(previous));
    }
}

/// Applies parameters to a customer.
fn write(params: &Params, customer: &mut Value) -> Result<(), Problem> {
    params.only(&KNOWN)?;
    for field in FIELDS {
        if let Some(text) = params.text(&format!("/{field}"))? {
            customer[field] = if text.is_empty() { Value::Null } else { json!(text) };
        }
    }
    if let Some(email) = customer["email"].as_str().filter(|email| !email.contains('@')) {
        return Err(Problem::invalid(format!("Invalid email address: {email}"), Some("email_invalid"), Some("email")));
    }
    params.metadata("/metadata", &mut customer["metadata"])
}

pub(super) fn create(ledger: &mut Ledger, _: &str, params: &Params) -> Result<Value, Problem> {
    let mut customer = made(None, &json!({}));
    write(params, &mut customer)?;
    let id = ledger.insert(customer);
    ledger.emit("customer.created", &id, None);
    ledger.get("customer", &id)
}

pub(super) fn update(ledger: &mut Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    let mut customer = ledger.get("customer", id)?;
    write(params, &mut customer)?;
    let previous = ledger.change(id, |stored| *stored = customer);
    if previous.as_object().is_some_and(|previous| !previous.is_empty()) {
        ledger.emit("customer.updated", id, Some(previous));
    }
    ledger.get("customer", id)
}
