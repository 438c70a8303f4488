//! The page of a session's `url`, on which a developer completes a purchase.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::account::Stripe;
use super::checkout::{self, Method};
use super::ledger::{Cause, number, text};
use super::problem::Problem;
use crate::wire;

/// Escapes a text for HTML.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut html, letter| {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter => html.push(letter),
        }
        html
    })
}

fn html(status: StatusCode, content: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sandbox checkout</title><style>body{{font:16px sans-serif;\
         max-width:32em;margin:4em auto}}td{{padding:.3em 1em .3em 0}}</style></head><body>{content}</body></html>"
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    wire::set(&mut response, "content-type", "text/html; charset=utf-8");
    response
}

fn dollars(cents: i64, currency: &str) -> String {
    format!("{}.{:02} {}", cents / 100, cents % 100, escaped(&currency.to_ascii_uppercase()))
}

/// Responds with the page of a session.
pub(super) async fn show(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>) -> Response {
    let found = stripe.read(|ledger| Ok::<_, Problem>((ledger.get("checkout.session", &id)?, checkout::items(ledger, &id)?)));
    let Ok((session, items)) = found else { return html(StatusCode::NOT_FOUND, "<p>No such session.</p>") };
    if session["status"] != "open" {
        return html(StatusCode::OK, &format!("<p>This session is {}.</p>", escaped(text(&session, "status"))));
    }
    let currency = text(&session, "currency");
    let mut rows = String::new();
    for item in &items {
        let (name, cents) = (escaped(text(item, "description")), dollars(number(item, "amount_total"), currency));
        let _ = write!(rows, "<tr><td>{} × {name}</td><td>{cents}</td></tr>", number(item, "quantity"));
    }
    let cancel = session["cancel_url"].as_str().map(|url| format!("<p><a href=\"{}\">Cancel</a></p>", escaped(url))).unwrap_or_default();
    html(
        StatusCode::OK,
        &format!(
            "<h1>Sandbox checkout</h1><table>{rows}</table><p>Total: <b>{}</b></p><form method=\"post\"><button>Pay</button></form>{cancel}",
            dollars(number(&session, "amount_total"), currency)
        ),
    )
}

/// Pays by card and redirects to the success URL.
pub(super) async fn pay(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>) -> Response {
    match stripe.act(Cause::default(), |ledger| checkout::pay(ledger, &id, Method::Card, None)) {
        Ok(session) => {
            let target = success_url(&session);
            let mut response = html(StatusCode::SEE_OTHER, "<p>Paid.</p>");
            wire::set(&mut response, "location", &target);
            response
        }
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
            html(status, &format!("<p>{}</p>", escaped(&problem.message)))
        }
    }
}

fn success_url(session: &Value) -> String {
    text(session, "success_url").replace("{CHECKOUT_SESSION_ID}", text(session, "id"))
}
