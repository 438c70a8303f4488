//! Products and prices.

use serde_json::{Value, json};

use super::form::Params;
use super::ledger::{Ledger, id, now};
use super::problem::Problem;

/// The largest amount of one payment, in cents.
pub(crate) const LARGEST_AMOUNT: i64 = 99_999_999;

/// The initial plans: product, name, price, cents a month.
const PLANS: [(&str, &str, &str, i64); 3] = [
    ("prod_pro", "Oslira Pro", "price_pro", 3_000),
    ("prod_agency", "Oslira Agency", "price_agency", 8_000),
    ("prod_enterprise", "Oslira Enterprise", "price_enterprise", 30_000),
];

/// Adds the initial plans to a ledger.
pub(super) fn add_plans(ledger: &mut Ledger) {
    for (product, name, price, cents) in PLANS {
        ledger.insert(self::product(product, name, Some(price)));
        ledger.insert(self::price(price, product, "usd", cents, Some(("month", 1))));
    }
}

fn product(id: &str, name: &str, price: Option<&str>) -> Value {
    json!({
        "id": id, "object": "product", "active": true, "created": now(), "default_price": price, "description": null, "images": [],
        "livemode": false, "marketing_features": [], "metadata": {}, "name": name, "package_dimensions": null, "shippable": null,
        "statement_descriptor": null, "tax_code": null, "type": "service", "unit_label": null, "updated": now(), "url": null,
    })
}

fn price(id: &str, product: &str, currency: &str, cents: i64, every: Option<(&str, i64)>) -> Value {
    let recurring = every.map(|(interval, count)| {
        json!({"interval": interval, "interval_count": count, "meter": null, "trial_period_days": null, "usage_type": "licensed"})
    });
    json!({
        "id": id, "object": "price", "active": true, "billing_scheme": "per_unit", "created": now(), "currency": currency,
        "custom_unit_amount": null, "livemode": false, "lookup_key": null, "metadata": {}, "nickname": null, "product": product,
        "recurring": recurring, "tax_behavior": "unspecified", "tiers_mode": null, "transform_quantity": null,
        "type": if recurring.is_some() { "recurring" } else { "one_time" }, "unit_amount": cents, "unit_amount_decimal": cents.to_string(),
    })
}

/// Returns the plan object that items still have beside their price.
pub(super) fn plan(price: &Value) -> Value {
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
        "currency": price["currency"], "interval": price["recurring"]["interval"], "interval_count": price["recurring"]["interval_count"],
        "livemode": false, "metadata": price["metadata"], "meter": null, "nickname": price["nickname"], "product": price["product"],
        "tiers_mode": null, "transform_usage": null, "trial_period_days": null, "usage_type": "licensed",
    })
}

/// Reads a currency code of three letters.
fn currency(params: &Params, at: &str) -> Result<String, Problem> {
    let currency = params.required(at)?.to_ascii_lowercase();
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_lowercase()) {
        Ok(currency)
    } else {
        Err(Problem::invalid(format!("Invalid currency: {currency}"), None, Some(&super::form::name(at))))
    }
}

/// Adds the price that parameters describe instead of naming one, and its product. Both are inactive, as they are for one purchase.
pub(super) fn described_price(ledger: &mut Ledger, params: &Params, at: &str) -> Result<Value, Problem> {
    let cents = params.integer(&format!("{at}/unit_amount"), 0, LARGEST_AMOUNT)?;
    let cents = cents.ok_or_else(|| Problem::missing(&super::form::name(&format!("{at}/unit_amount"))))?;
    let currency = currency(params, &format!("{at}/currency"))?;
    let every = match params.one_of(&format!("{at}/recurring/interval"), &["day", "week", "month", "year"])? {
        Some(interval) => Some((interval, params.integer(&format!("{at}/recurring/interval_count"), 1, 36)?.unwrap_or(1))),
        None => None,
    };
    let product = if let Some(named) = params.text(&format!("{at}/product"))? {
        ledger.referenced("product", named, &super::form::name(&format!("{at}/product")))?;
        named.to_owned()
    } else {
        let name = params.required(&format!("{at}/product_data/name"))?;
        let mut product = product(&id("prod"), name, None);
        product["description"] = json!(params.text(&format!("{at}/product_data/description"))?);
        params.metadata(&format!("{at}/product_data/metadata"), &mut product["metadata"])?;
        product["active"] = json!(false);
        ledger.insert(product)
    };
    let mut price = price(&id("price"), &product, &currency, cents, every);
    price["active"] = json!(false);
    ledger.insert(price.clone());
    Ok(price)
}

pub(super) fn create_product(ledger: &mut Ledger, _: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&["id", "name", "description", "active", "metadata/*"])?;
    let name = params.required("/name")?;
    let id = params.text("/id")?.map_or_else(|| id("prod"), str::to_owned);
    if ledger.any(&id).is_some() {
        return Err(Problem::invalid(format!("Product already exists: '{id}'."), Some("resource_already_exists"), Some("id")));
    }
    let mut made = product(&id, name, None);
    made["description"] = json!(params.text("/description")?);
    made["active"] = json!(params.boolean("/active")?.unwrap_or(true));
    params.metadata("/metadata", &mut made["metadata"])?;
    let id = ledger.insert(made);
    ledger.emit("product.created", &id, None);
    ledger.get("product", &id)
}

pub(super) fn create_price(ledger: &mut Ledger, _: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&[
        "currency",
        "unit_amount",
        "product",
        "product_data/name",
        "product_data/metadata/*",
        "recurring/interval",
        "recurring/interval_count",
        "lookup_key",
        "nickname",
        "active",
        "metadata/*",
    ])?;
    let (lookup_key, nickname, active) =
        (params.text("/lookup_key")?, params.text("/nickname")?, params.boolean("/active")?.unwrap_or(true));
    let mut metadata = json!({});
    params.metadata("/metadata", &mut metadata)?;
    let price = described_price(ledger, params, "")?;
    let id = super::ledger::text(&price, "id").to_owned();
    ledger.set(&id, &json!({"active": active, "lookup_key": lookup_key, "nickname": nickname, "metadata": metadata}));
    ledger.set(super::ledger::text(&price, "product"), &json!({"active": true}));
    ledger.emit("price.created", &id, None);
    ledger.get("price", &id)
}
