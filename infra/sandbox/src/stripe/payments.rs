//! Payment intents and their charges.

use serde_json::{Value, json};

use super::ledger::{Ledger, id, now, text};

/// An amount to pay and its owner.
#[derive(Debug)]
pub(super) struct Payment<'a> {
    pub(super) cents: i64,
    pub(super) currency: &'a str,
    pub(super) customer: Option<&'a str>,
    pub(super) email: Option<&'a str>,
    pub(super) description: Option<&'a str>,
    pub(super) metadata: &'a Value,
}

/// The outcome of a payment attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    /// A delayed payment, which is being processed.
    Processing,
    Declined,
}

/// Adds a payment intent that is not confirmed.
pub(super) fn intend(ledger: &mut Ledger, payment: &Payment<'_>) -> String {
    let id = id("pi");
    let secret = format!("{id}_secret_{}", super::ledger::id("x").trim_start_matches("x_"));
    ledger.insert(json!({
        "id": id, "object": "payment_intent", "amount": payment.cents, "amount_capturable": 0, "amount_details": {"tip": {}},
        "amount_received": 0, "application": null, "application_fee_amount": null, "automatic_payment_methods": {"enabled": true},
        "canceled_at": null, "cancellation_reason": null, "capture_method": "automatic_async", "client_secret": secret,
        "confirmation_method": "automatic", "created": now(), "currency": payment.currency, "customer": payment.customer,
        "description": payment.description, "last_payment_error": null, "latest_charge": null, "livemode": false,
        "metadata": payment.metadata, "next_action": null, "on_behalf_of": null, "payment_method": null,
        "payment_method_configuration_details": null, "payment_method_options": {}, "payment_method_types": ["card"],
        "payment_record": null, "processing": null, "receipt_email": payment.email, "review": null, "setup_future_usage": null,
        "shipping": null, "source": null, "statement_descriptor": null, "statement_descriptor_suffix": null,
        "status": "requires_payment_method", "transfer_data": null, "transfer_group": null,
    }))
}

/// Attempts to charge for a payment intent.
pub(super) fn attempt(ledger: &mut Ledger, intent: &str, end: End) {
    let Some(object) = ledger.find("payment_intent", intent).cloned() else { return };
    let charge = charge(&ledger.site, &object, end);
    let charge = ledger.insert(charge);
    let method = ledger.find("charge", &charge).map(|charge| charge["payment_method"].clone());
    ledger.set(intent, &json!({"latest_charge": charge, "payment_method": method}));
    match end {
        End::Succeeded => settled(ledger, intent, true),
        End::Declined => settled(ledger, intent, false),
        End::Processing => {
            ledger.set(intent, &json!({"status": "processing", "payment_method_types": ["us_bank_account"]}));
            ledger.emit("charge.pending", &charge, None);
            ledger.emit("payment_intent.processing", intent, None);
        }
    }
}

/// Records the outcome of a payment intent's last charge.
pub(super) fn settled(ledger: &mut Ledger, intent: &str, succeeded: bool) {
    let Some(object) = ledger.find("payment_intent", intent).cloned() else { return };
    let charge = text(&object, "latest_charge");
    if succeeded {
        let amount = &object["amount"];
        ledger.set(charge, &json!({"status": "succeeded", "paid": true, "captured": true, "amount_captured": amount}));
        ledger.emit("charge.succeeded", charge, None);
        ledger.set(intent, &json!({"status": "succeeded", "amount_received": amount, "last_payment_error": null}));
        ledger.emit("payment_intent.succeeded", intent, None);
    } else {
        let message = "The payment was declined.";
        let declined = json!({"status": "failed", "paid": false, "failure_code": "card_declined", "failure_message": message});
        ledger.set(charge, &declined);
        ledger.emit("charge.failed", charge, None);
        let error = json!({"charge": charge, "code": "card_declined", "decline_code": "generic_decline", "message": message,
            "payment_method_type": "card", "type": "card_error"});
        ledger.set(intent, &json!({"status": "requires_payment_method", "payment_method": null, "last_payment_error": error}));
        ledger.emit("payment_intent.payment_failed", intent, None);
    }
}

fn charge(site: &str, intent: &Value, end: End) -> Value {
    let id = id("ch");
    let succeeded = end == End::Succeeded;
    let method = if end == End::Processing {
        json!({"type": "us_bank_account", "us_bank_account": {"account_holder_type": "individual", "account_type": "checking",
            "bank_name": "STRIPE TEST BANK", "fingerprint": null, "last4": "6789", "mandate": null, "payment_reference": null,
            "routing_number": "110000000"}})
    } else {
        json!({"type": "card", "card": {"amount_authorized": intent["amount"], "authorization_code": null, "brand": "visa",
            "checks": {"address_line1_check": null, "address_postal_code_check": "pass", "cvc_check": "pass"}, "country": "US",
            "exp_month": 12, "exp_year": 2034, "fingerprint": "Xt5EWLLDS7FJjR1c", "funding": "credit", "installments": null,
            "last4": "4242", "mandate": null, "network": "visa", "network_token": {"used": false}, "network_transaction_id": null,
            "regulated_status": "unregulated", "three_d_secure": null, "wallet": null}})
    };
    json!({
        "id": id, "object": "charge", "amount": intent["amount"], "amount_captured": if succeeded { intent["amount"].clone() } else { json!(0) },
        "amount_refunded": 0, "application": null, "application_fee": null, "application_fee_amount": null,
        "balance_transaction": if succeeded { json!(super::ledger::id("txn")) } else { Value::Null },
        "billing_details": {"address": {"city": null, "country": "US", "line1": null, "line2": null, "postal_code": "94107", "state": null},
            "email": intent["receipt_email"], "name": "Sandbox Buyer", "phone": null, "tax_id": null},
        "calculated_statement_descriptor": "OSLIRA", "captured": succeeded, "created": now(), "currency": intent["currency"],
        "customer": intent["customer"], "description": intent["description"], "disputed": false, "failure_balance_transaction": null,
        "failure_code": null, "failure_message": null, "fraud_details": {}, "livemode": false, "metadata": intent["metadata"],
        "on_behalf_of": null,
        "outcome": {"advice_code": null, "network_advice_code": null, "network_decline_code": null,
            "network_status": if end == End::Declined { "declined_by_network" } else { "approved_by_network" }, "reason": null,
            "risk_level": "normal", "risk_score": 12, "seller_message": if end == End::Declined { "Declined." } else { "Payment complete." },
            "type": if end == End::Declined { "issuer_declined" } else { "authorized" }},
        "paid": succeeded, "payment_intent": intent["id"], "payment_method": super::ledger::id("pm"), "payment_method_details": method,
        "presentment_details": intent["presentment_details"],
        "radar_options": {}, "receipt_email": intent["receipt_email"], "receipt_number": null,
        "receipt_url": format!("{site}/receipts/{id}"), "refunded": false, "review": null, "shipping": null, "source": null,
        "source_transfer": null, "statement_descriptor": null, "statement_descriptor_suffix": null,
        "status": match end { End::Succeeded => "succeeded", End::Processing => "pending", End::Declined => "failed" },
        "transfer_data": null, "transfer_group": null,
    })
}
