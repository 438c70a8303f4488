//! Reads: one object, or a page of a list, with related objects expanded if the request says so.

use serde_json::{Value, json};

use super::checkout;
use super::form::Params;
use super::invoices;
use super::ledger::{Ledger, list, text};
use super::problem::Problem;

const PAGING: [&str; 8] = ["limit", "starting_after", "ending_before", "created", "created/gt", "created/gte", "created/lt", "created/lte"];

/// A kind of object that can be read by its id and listed.
#[derive(Debug)]
pub(super) struct Collection {
    /// The path below `/v1/`.
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    /// The filters of the list, each with its place in the object.
    filters: &'static [(&'static str, &'static str)],
}

/// The kinds of objects that can be read.
pub(super) const COLLECTIONS: [Collection; 12] = [
    Collection { path: "customers", kind: "customer", filters: &[("email", "/email")] },
    Collection { path: "products", kind: "product", filters: &[("active", "/active")] },
    Collection {
        path: "prices",
        kind: "price",
        filters: &[
            ("active", "/active"),
            ("product", "/product"),
            ("type", "/type"),
            ("currency", "/currency"),
            ("lookup_keys/#", "/lookup_key"),
            ("recurring/interval", "/recurring/interval"),
        ],
    },
    Collection {
        path: "checkout/sessions",
        kind: "checkout.session",
        filters: &[
            ("customer", "/customer"),
            ("payment_intent", "/payment_intent"),
            ("subscription", "/subscription"),
            ("status", "/status"),
        ],
    },
    Collection { path: "payment_intents", kind: "payment_intent", filters: &[("customer", "/customer")] },
    Collection { path: "charges", kind: "charge", filters: &[("customer", "/customer"), ("payment_intent", "/payment_intent")] },
    Collection { path: "refunds", kind: "refund", filters: &[("charge", "/charge"), ("payment_intent", "/payment_intent")] },
    Collection { path: "disputes", kind: "dispute", filters: &[("charge", "/charge"), ("payment_intent", "/payment_intent")] },
    Collection {
        path: "subscriptions",
        kind: "subscription",
        filters: &[("customer", "/customer"), ("status", "/status"), ("price", "/items/data/0/price/id")],
    },
    Collection {
        path: "invoices",
        kind: "invoice",
        filters: &[
            ("customer", "/customer"),
            ("status", "/status"),
            ("subscription", "/parent/subscription_details/subscription"),
            ("collection_method", "/collection_method"),
        ],
    },
    Collection {
        path: "invoice_payments",
        kind: "invoice_payment",
        filters: &[
            ("invoice", "/invoice"),
            ("status", "/status"),
            ("payment/type", "/payment/type"),
            ("payment/payment_intent", "/payment/payment_intent"),
        ],
    },
    Collection { path: "events", kind: "event", filters: &[("type", "/type")] },
];

/// `GET /v1/<collection>/{id}`.
pub(super) fn one(ledger: &Ledger, kind: &str, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&[])?;
    if kind == "event" { ledger.event(id).cloned().ok_or_else(|| Problem::not_found("event", id)) } else { ledger.get(kind, id) }
}

/// `GET /v1/<collection>`, the newest first.
pub(super) fn all(ledger: &Ledger, collection: &Collection, params: &Params) -> Result<Value, Problem> {
    let known: Vec<&str> = PAGING.into_iter().chain(collection.filters.iter().map(|(name, _)| *name)).chain(["types/#"]).collect();
    params.only(&known)?;
    if params.has("/payment") && params.text("/payment/type")?.is_none() {
        return Err(Problem::missing("payment[type]"));
    }
    let mut filters = Vec::new();
    for (name, place) in collection.filters {
        let values = match name.strip_suffix("/#") {
            Some(list) => params.members(&format!("/{list}"))?,
            None => vec![format!("/{name}")],
        };
        let values = values.iter().filter_map(|at| params.text(at).transpose()).collect::<Result<Vec<_>, _>>()?;
        if !values.is_empty() {
            filters.push((*name, *place, values));
        }
    }
    let types = params.members("/types")?.iter().filter_map(|at| params.text(at).transpose()).collect::<Result<Vec<_>, _>>()?;
    let fits = |object: &Value| {
        let narrowed = filters.iter().all(|(name, place, values)| match object.pointer(place) {
            // Ended subscriptions are listed only if the request says so.
            Some(Value::String(_)) if collection.kind == "subscription" && *name == "status" && values.contains(&"all") => true,
            Some(Value::String(is)) => values.contains(&is.as_str()),
            Some(Value::Bool(is)) => values.contains(&if *is { "true" } else { "false" }),
            _ => false,
        });
        let ended =
            collection.kind == "subscription" && object["status"] == "canceled" && !filters.iter().any(|(name, ..)| *name == "status");
        narrowed && !ended && (types.is_empty() || types.contains(&text(object, "type")))
    };
    let found: Vec<&Value> = if collection.kind == "event" {
        ledger.events().iter().rev().filter(|event| fits(event)).collect()
    } else {
        ledger.all(collection.kind).filter(|object| fits(object)).collect()
    };
    page(&found, params, &format!("/v1/{}", collection.path))
}

/// `GET /v1/checkout/sessions/{id}/line_items`.
pub(super) fn line_items(ledger: &Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&PAGING)?;
    let items = checkout::items(ledger, id)?;
    page(&items.iter().collect::<Vec<_>>(), params, &format!("/v1/checkout/sessions/{id}/line_items"))
}

/// `GET /v1/customers/{id}/balance_transactions`.
pub(super) fn balance_transactions(ledger: &Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&PAGING)?;
    ledger.get("customer", id)?;
    let found: Vec<&Value> = ledger.all("customer_balance_transaction").filter(|entry| entry["customer"] == id).collect();
    page(&found, params, &format!("/v1/customers/{id}/balance_transactions"))
}

/// `GET /v1/invoices/{id}/lines`.
pub(super) fn invoice_lines(ledger: &Ledger, id: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&PAGING)?;
    let invoice = ledger.get("invoice", id)?;
    let lines: Vec<&Value> = invoice["lines"]["data"].as_array().into_iter().flatten().collect();
    page(&lines, params, &format!("/v1/invoices/{id}/lines"))
}

/// Returns the page of a list that the parameters name.
fn page(found: &[&Value], params: &Params, url: &str) -> Result<Value, Problem> {
    let limit = params.integer("/limit", 1, 100)?.unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(10);
    let bounds = ["", "gt", "gte", "lt", "lte"];
    let mut found = found.to_vec();
    for bound in bounds {
        let at = if bound.is_empty() { "/created".to_owned() } else { format!("/created/{bound}") };
        if bound.is_empty() && params.has("/created") && params.text("/created").is_err() {
            continue;
        }
        let Some(time) = params.integer(&at, 0, i64::MAX)? else { continue };
        found.retain(|object| {
            let created = super::ledger::number(object, "created");
            match bound {
                "gt" => created > time,
                "gte" => created >= time,
                "lt" => created < time,
                "lte" => created <= time,
                _ => created == time,
            }
        });
    }
    let place = |parameter: &str| match params.text(&format!("/{parameter}"))? {
        None => Ok(None),
        Some(id) => match found.iter().position(|object| object["id"] == id) {
            Some(index) => Ok(Some(index)),
            None => Err(Problem::unknown_reference("object", id, parameter)),
        },
    };
    let (data, more) = match (place("starting_after")?, place("ending_before")?) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("You may only specify one of: starting_after, ending_before.", None, Some("ending_before")));
        }
        (None, Some(end)) => {
            let begin = end.saturating_sub(limit);
            (found.get(begin..end).unwrap_or_default(), begin > 0)
        }
        (after, None) => {
            let rest = found.get(after.map_or(0, |after| after + 1)..).unwrap_or_default();
            (rest.get(..limit.min(rest.len())).unwrap_or_default(), rest.len() > limit)
        }
    };
    Ok(json!({"object": "list", "data": data, "has_more": more, "url": url}))
}

/// Replaces ids by their objects as `expand[]` says.
pub(super) fn expand(ledger: &Ledger, params: &Params, answer: &mut Value) -> Result<(), Problem> {
    for at in params.members("/expand")? {
        let path = params.required(&at)?;
        let segments: Vec<&str> = path.split('.').collect();
        if segments.len() > 4 || !put(ledger, answer, &segments) {
            return Err(Problem::invalid(format!("This property cannot be expanded ({path})."), None, Some("expand")));
        }
    }
    Ok(())
}

fn put(ledger: &Ledger, node: &mut Value, path: &[&str]) -> bool {
    let [first, rest @ ..] = path else { return true };
    if let Value::Array(members) = node {
        return members.iter_mut().all(|member| put(ledger, member, path));
    }
    let id = text(node, "id").to_owned();
    let shown = match (text(node, "object"), *first) {
        ("checkout.session", "line_items") => checkout::items_of(ledger, &id).ok(),
        ("invoice", "payments") => {
            let payments: Vec<Value> = invoices::payment_of(ledger, &id).into_iter().collect();
            Some(list(&format!("/v1/invoice_payments?invoice={id}"), &payments))
        }
        ("charge", "refunds") => {
            let refunds: Vec<Value> = ledger.all("refund").filter(|refund| refund["charge"] == id.as_str()).cloned().collect();
            Some(list(&format!("/v1/charges/{id}/refunds"), &refunds))
        }
        _ => match node.get(*first) {
            Some(Value::String(named)) => ledger.any(named).cloned(),
            Some(Value::Null) => return true,
            Some(Value::Object(_) | Value::Array(_)) => node.get(*first).cloned(),
            _ => None,
        },
    };
    let Some(mut shown) = shown else { return false };
    let done = put(ledger, &mut shown, rest);
    if let Some(object) = node.as_object_mut() {
        object.insert((*first).to_owned(), shown);
    }
    done
}
