//! Checkout Sessions: pages on which customers pay.

use serde_json::{Value, json};

use super::form::{self, Params};
use super::ledger::{Ledger, id, list, now, number, text};
use super::payments::{self, End, Payment};
use super::problem::Problem;
use super::subscriptions::{self, NewSubscription};
use super::{catalog, customers};

/// The time in which a session can be paid, in seconds.
const OPEN_FOR: i64 = 24 * 3600;

/// The parameters of a new session. API version endive removed `payment_method_types`.
const KNOWN: [&str; 36] = [
    "mode",
    "success_url",
    "cancel_url",
    "customer",
    "customer_email",
    "customer_creation",
    "client_reference_id",
    "metadata/*",
    "line_items/#/price",
    "line_items/#/quantity",
    "line_items/#/price_data/currency",
    "line_items/#/price_data/unit_amount",
    "line_items/#/price_data/product",
    "line_items/#/price_data/product_data/name",
    "line_items/#/price_data/product_data/description",
    "line_items/#/price_data/product_data/metadata/*",
    "line_items/#/price_data/recurring/interval",
    "line_items/#/price_data/recurring/interval_count",
    "payment_intent_data/metadata/*",
    "payment_intent_data/description",
    "payment_intent_data/receipt_email",
    "subscription_data/metadata/*",
    "subscription_data/description",
    "invoice_creation/enabled",
    "expires_at",
    "allow_promotion_codes",
    "automatic_tax/enabled",
    "allowed_payment_method_types/#",
    "excluded_payment_method_types/#",
    "billing_address_collection",
    "locale",
    "submit_type",
    "ui_mode",
    "currency",
    "payment_method_collection",
    "tax_id_collection/enabled",
];

/// A way to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Method {
    #[default]
    Card,
    /// The payment settles days later or fails.
    Delayed,
    /// The card is declined.
    Fail,
}

/// What the payer sees of a price in another currency (Adaptive Pricing).
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Presented {
    presentment_amount: i64,
    presentment_currency: String,
}

/// Reads the items that a new session sells.
fn line_items(ledger: &mut Ledger, params: &Params, mode: &str) -> Result<Vec<Value>, Problem> {
    let expected = if mode == "subscription" { "recurring" } else { "one_time" };
    let mut items = Vec::new();
    for at in params.members("/line_items")? {
        let price = match params.text(&format!("{at}/price"))? {
            Some(price) => ledger.referenced("price", price, &form::name(&format!("{at}/price")))?,
            None if params.has(&format!("{at}/price_data")) => catalog::described_price(ledger, params, &format!("{at}/price_data"))?,
            None => return Err(Problem::missing(&form::name(&format!("{at}/price")))),
        };
        if price["type"] != expected {
            let message = format!("In {mode} mode, prices are {expected}.");
            return Err(Problem::invalid(message, None, Some(&form::name(&at))));
        }
        let at_quantity = format!("{at}/quantity");
        let quantity = params.integer(&at_quantity, 1, 999_999)?.ok_or_else(|| Problem::missing(&form::name(&at_quantity)))?;
        let amount = number(&price, "unit_amount") * quantity;
        let product = ledger.any(text(&price, "product")).map(|product| product["name"].clone());
        items.push(json!({
            "id": id("li"), "object": "item", "amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount,
            "adjustable_quantity": null, "currency": price["currency"], "description": product, "metadata": {}, "price": price,
            "quantity": quantity,
        }));
    }
    match items.as_slice() {
        [] => Err(Problem::missing("line_items")),
        [_, _, ..] if mode == "subscription" => {
            Err(Problem::invalid("The sandbox has subscriptions of one item.", None, Some("line_items")))
        }
        [first, rest @ ..] if rest.iter().any(|item| item["currency"] != first["currency"]) => {
            Err(Problem::invalid("All prices must have the same currency.", None, Some("line_items")))
        }
        _ => Ok(items),
    }
}

/// `POST /v1/checkout/sessions`.
pub(super) fn create(ledger: &mut Ledger, _: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&KNOWN)?;
    params.required("/mode")?;
    let mode = params.one_of("/mode", &["payment", "subscription"])?.unwrap_or_default();
    params.one_of("/ui_mode", &["hosted_page"])?;
    let success_url = params.required("/success_url")?;
    let customer = params.text("/customer")?;
    let known = customer.map(|customer| ledger.referenced("customer", customer, "customer")).transpose()?;
    if customer.is_some() && params.has("/customer_email") {
        return Err(Problem::invalid("You may only specify one of: customer, customer_email.", None, Some("customer_email")));
    }
    if params.text("/client_reference_id")?.is_some_and(|id| id.is_empty() || id.len() > 200) {
        return Err(Problem::invalid("client_reference_id has 1 to 200 characters.", None, Some("client_reference_id")));
    }
    for (data, other) in
        [("/payment_intent_data", "subscription"), ("/subscription_data", "payment"), ("/customer_creation", "subscription")]
    {
        if params.has(data) && mode == other {
            return Err(Problem::invalid(format!("{} cannot be used in {mode} mode.", form::name(data)), None, Some(&form::name(data))));
        }
    }
    let created = now();
    let expires_at = params.integer("/expires_at", created + 30 * 60, created + OPEN_FOR)?.unwrap_or(created + OPEN_FOR);
    let creation = params.one_of("/customer_creation", &["always", "if_required"])?.unwrap_or("if_required");
    let email = params.text("/customer_email")?;
    let mut metadata = json!({});
    params.metadata("/metadata", &mut metadata)?;
    let (mut payment, mut subscription) = (json!({}), json!({}));
    params.metadata("/payment_intent_data/metadata", &mut payment)?;
    params.metadata("/subscription_data/metadata", &mut subscription)?;
    let items = line_items(ledger, params, mode)?;
    let total: i64 = items.iter().map(|item| number(item, "amount_total")).sum();
    if total > catalog::LARGEST_AMOUNT {
        return Err(Problem::invalid("The total exceeds the largest payment.", Some("amount_too_large"), Some("line_items")));
    }
    let currency = items.first().map(|item| item["currency"].clone());
    let details = known.as_ref().map(|customer| json!({"email": customer["email"], "tax_exempt": "none"}));
    let session = id("cs_test");
    let url = format!("{}/pay/{session}", ledger.site);
    ledger.keep(
        &session,
        json!({"items": items, "payment_metadata": payment, "subscription_metadata": subscription,
            "description": params.text("/payment_intent_data/description")?, "receipt_email": params.text("/payment_intent_data/receipt_email")?}),
    );
    ledger.insert(json!({
        "id": session, "object": "checkout.session", "adaptive_pricing": {"enabled": false}, "after_expiration": null,
        "allow_promotion_codes": params.boolean("/allow_promotion_codes")?, "amount_subtotal": total, "amount_total": total,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null}, "billing_address_collection": null,
        "cancel_url": params.text("/cancel_url")?, "client_reference_id": params.text("/client_reference_id")?, "client_secret": null,
        "collected_information": null, "consent": null, "consent_collection": null, "created": created, "currency": currency,
        "currency_conversion": null, "custom_fields": [],
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "customer": customer, "customer_creation": if customer.is_some() { Value::Null } else if mode == "subscription" { json!("always") } else { json!(creation) },
        "customer_details": details, "customer_email": email, "discounts": [], "expires_at": expires_at, "invoice": null,
        "invoice_creation": if mode == "payment" { json!({"enabled": false, "invoice_data": {"account_tax_ids": null, "custom_fields": null,
            "description": null, "footer": null, "issuer": null, "metadata": {}, "rendering_options": null}}) } else { Value::Null },
        "livemode": false, "locale": params.text("/locale")?, "metadata": metadata, "mode": mode, "origin_context": null,
        "payment_intent": null, "payment_link": null,
        "payment_method_collection": if mode == "payment" { "if_required" } else { "always" },
        "payment_method_configuration_details": null, "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"], "payment_status": "unpaid", "permissions": null, "phone_number_collection": {"enabled": false},
        "recovered_from": null, "redirect_on_completion": null, "saved_payment_method_options": null, "setup_intent": null,
        "shipping_address_collection": null, "shipping_cost": null, "shipping_options": [], "status": "open", "submit_type": null,
        "subscription": null, "success_url": success_url,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0}, "ui_mode": "hosted_page", "url": url,
        "wallet_options": null,
    }));
    ledger.get("checkout.session", &session)
}

/// Returns a session that can still be paid.
fn open(ledger: &Ledger, id: &str) -> Result<Value, Problem> {
    let session = ledger.get("checkout.session", id)?;
    match text(&session, "status") {
        "open" => Ok(session),
        status => Err(Problem::invalid(format!("The session {id} is {status}, not open."), None, Some("session"))),
    }
}

/// `POST /v1/checkout/sessions/{id}/expire`.
pub(super) fn expire(ledger: &mut Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&[])?;
    open(ledger, id)?;
    ledger.set(id, &json!({"status": "expired", "url": null}));
    ledger.emit("checkout.session.expired", id, None);
    ledger.get("checkout.session", id)
}

/// Returns the items of a session.
pub(super) fn items(ledger: &Ledger, id: &str) -> Result<Vec<Value>, Problem> {
    ledger.get("checkout.session", id)?;
    Ok(ledger.kept(id)["items"].as_array().cloned().unwrap_or_default())
}

/// Adds the items to a session that a request expands.
pub(super) fn items_of(ledger: &Ledger, id: &str) -> Result<Value, Problem> {
    Ok(list(&format!("/v1/checkout/sessions/{id}/line_items"), &items(ledger, id)?))
}

/// Pays a session as a customer does on its page.
pub(super) fn pay(ledger: &mut Ledger, id: &str, method: Method, presented: Option<&Presented>) -> Result<Value, Problem> {
    let session = open(ledger, id)?;
    if session["mode"] == "subscription" {
        return subscribe(ledger, &session, method);
    }
    let hidden = ledger.kept(id);
    let total = number(&session, "amount_total");
    let email = session["customer_details"]["email"].as_str().or(session["customer_email"].as_str()).unwrap_or("buyer@example.com");
    if total == 0 {
        let customer = customer(ledger, &session, email);
        complete(ledger, id, email, json!({"customer": customer, "payment_status": "no_payment_required"}));
        return ledger.get("checkout.session", id);
    }
    // A declined card leaves the payment intent for the next attempt.
    let customer = if method == Method::Fail { session["customer"].clone() } else { customer(ledger, &session, email) };
    let intent = match session["payment_intent"].as_str() {
        Some(intent) => intent.to_owned(),
        None => payments::intend(
            ledger,
            &Payment {
                cents: total,
                currency: text(&session, "currency"),
                customer: customer.as_str(),
                email: hidden["receipt_email"].as_str(),
                description: hidden["description"].as_str(),
                metadata: &hidden["payment_metadata"],
            },
        ),
    };
    let end = match method {
        Method::Card => End::Succeeded,
        Method::Delayed => End::Processing,
        Method::Fail => End::Declined,
    };
    ledger.set(&intent, &json!({"customer": customer}));
    if let Some(presented) = presented {
        for object in [&*intent, id] {
            ledger.set(object, &json!({"presentment_details": presented}));
        }
    }
    payments::attempt(ledger, &intent, end);
    if end == End::Declined {
        ledger.set(id, &json!({"payment_intent": intent}));
    } else {
        let status = if end == End::Succeeded { "paid" } else { "unpaid" };
        complete(ledger, id, email, json!({"customer": customer, "payment_intent": intent, "payment_status": status}));
    }
    ledger.get("checkout.session", id)
}

/// Returns the session's customer, who is created now if the session says so.
fn customer(ledger: &mut Ledger, session: &Value, email: &str) -> Value {
    if !session["customer"].is_null() || session["customer_creation"] != "always" {
        return session["customer"].clone();
    }
    let id = ledger.insert(customers::made(Some(email), &json!({})));
    ledger.emit("customer.created", &id, None);
    json!(id)
}

fn complete(ledger: &mut Ledger, id: &str, email: &str, mut fields: Value) {
    let address = json!({"city": null, "country": "US", "line1": null, "line2": null, "postal_code": "94107", "state": null});
    fields["status"] = json!("complete");
    fields["url"] = Value::Null;
    fields["customer_details"] = json!({"address": address, "business_name": null, "email": email, "individual_name": null,
        "name": "Sandbox Buyer", "phone": null, "tax_exempt": "none", "tax_ids": []});
    ledger.set(id, &fields);
    ledger.emit("checkout.session.completed", id, None);
}

fn subscribe(ledger: &mut Ledger, session: &Value, method: Method) -> Result<Value, Problem> {
    let id = text(session, "id");
    match method {
        Method::Card => {}
        // Since API version basil a subscription starts with its payment, so a declined card creates nothing.
        Method::Fail => return Ok(session.clone()),
        Method::Delayed => return Err(Problem::invalid("The sandbox pays subscriptions by card only.", None, Some("method"))),
    }
    let hidden = ledger.kept(id);
    let email = session["customer_details"]["email"].as_str().or(session["customer_email"].as_str()).unwrap_or("buyer@example.com");
    let customer = customer(ledger, session, email);
    let new = NewSubscription {
        customer: customer.as_str().unwrap_or_default(),
        price: &hidden["items"][0]["price"],
        add_on: None,
        metadata: &hidden["subscription_metadata"],
        cancel_at_period_end: false,
    };
    let (subscription, invoice) = subscriptions::start(ledger, &new)?;
    let fields = json!({"customer": customer, "subscription": subscription, "invoice": invoice, "payment_status": "paid"});
    complete(ledger, id, email, fields);
    ledger.get("checkout.session", id)
}

/// Settles or fails a delayed payment.
pub(super) fn settle(ledger: &mut Ledger, id: &str, succeed: bool) -> Result<Value, Problem> {
    let session = ledger.get("checkout.session", id)?;
    let intent = text(&session, "payment_intent");
    let processing = ledger.find("payment_intent", intent).is_some_and(|intent| intent["status"] == "processing");
    if session["status"] != "complete" || !processing {
        return Err(Problem::invalid(format!("The session {id} has no delayed payment."), None, Some("session")));
    }
    payments::settled(ledger, intent, succeed);
    if succeed {
        ledger.set(id, &json!({"payment_status": "paid"}));
    }
    let kind = if succeed { "checkout.session.async_payment_succeeded" } else { "checkout.session.async_payment_failed" };
    ledger.emit(kind, id, None);
    ledger.get("checkout.session", id)
}
