use serde_json::json;

use super::*;
use crate::stripe::client::tests::serving;
use crate::stripe::{Change, DisputeState};
use crate::stub::Script;

fn list(data: &Value) -> Script {
    Script::json(200, &json!({ "object": "list", "data": data, "has_more": false }))
}

fn missing() -> Script {
    Script::json(404, &json!({ "error": { "type": "invalid_request_error", "code": "resource_missing" } }))
}

#[tokio::test]
async fn a_payment_has_an_invoice_or_none() {
    let scripts = vec![
        list(&json!([{"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": "paid"}])),
        list(&json!([{"id": "inpay_1", "invoice": {"id": "in_2", "object": "invoice"}}])),
        list(&json!([])),
        list(&json!([{"id": "inpay_1", "invoice": "../in"}])),
        list(&json!([{"invoice": "in_3", "status": "canceled"}, {"invoice": "in_4", "status": "paid"}])),
    ];
    let (stripe, stub) = serving(scripts).await;
    assert_eq!(stripe.invoice_of_payment("pi_1").await.unwrap().as_deref(), Some("in_1"));
    assert_eq!(stripe.invoice_of_payment("pi_1&limit=0").await.unwrap().as_deref(), Some("in_2"));
    assert_eq!(stripe.invoice_of_payment("pi_1").await, Ok(None));
    assert!(matches!(stripe.invoice_of_payment("pi_1").await, Err(VendorError::Invalid(_))));
    assert_eq!(stripe.invoice_of_payment("pi_1").await.unwrap().as_deref(), Some("in_4"));
    let sent = stub.requests();
    let path = "GET /v1/invoice_payments?payment%5Btype%5D=payment_intent&payment%5Bpayment_intent%5D=pi_1 HTTP/1.1";
    assert_eq!(sent[0].line, path);
    assert!(sent[1].line.contains("=pi_1%26limit%3D0 "));
    assert!(!sent[0].headers.contains("idempotency-key"));
}

/// Returns what remains of a dispute of 10,750 in `currency`, with this response to the query of the payment's charges.
async fn disputed(currency: &str, charges: Script) -> Value {
    let (stripe, stub) = serving(vec![list(&json!([])), charges]).await;
    let change = Change::Dispute { dispute_id: "du_1".to_owned(), cents: 10_750, state: DisputeState::Open };
    let reversal = Reversal { payment_intent: "pi_1".to_owned(), currency: currency.to_owned(), change };
    let effect = serde_json::to_value(stripe.complete(Reading::Reversal(reversal)).await.unwrap()).unwrap();
    let queried = stub.requests().iter().any(|request| request.line.starts_with("GET /v1/charges?payment_intent=pi_1 "));
    assert_eq!(queried, currency != "usd");
    json!([effect["kind"], effect["currency"], effect["cents"]])
}

#[tokio::test]
async fn a_dispute_in_the_payers_currency_is_converted() {
    let charge = |currency: &str, presentment: Value| {
        let failed = json!({ "amount": 1, "currency": "usd", "status": "failed", "presentment_details": null });
        list(&json!([failed, { "amount": 23_038, "currency": currency, "status": "succeeded", "presentment_details": presentment }]))
    };
    let presented = |amount: i64| json!({ "presentment_amount": amount, "presentment_currency": "eur" });
    // Half of what the payer saw is half of the price.
    assert_eq!(disputed("eur", charge("usd", presented(21_500))).await, json!(["reversal", "usd", 11_519]));
    // Exchange rates change: no more than the charge.
    assert_eq!(disputed("eur", charge("usd", presented(10_000))).await, json!(["reversal", "usd", 23_038]));
    assert_eq!(disputed("eur", charge("eur", Value::Null)).await, json!(["reversal", "eur", 10_750]));
    assert_eq!(disputed("usd", charge("usd", presented(21_500))).await, json!(["reversal", "usd", 10_750]));
    // A third currency, which the database rejects for payments of ours.
    assert_eq!(disputed("gbp", charge("usd", presented(21_500))).await, json!(["reversal", "gbp", 10_750]));
    for none in [list(&json!([])), missing()] {
        assert_eq!(disputed("eur", none).await, json!(["ignored", null, null]));
    }
}

/// The balance of a customer, the oldest entry first: (type, amount, ending balance, invoice).
fn balance(entries: &[(&str, i64, i64, Option<&str>)]) -> Vec<BalanceEntry> {
    let entry = |(number, (kind, amount, ending, invoice)): (usize, &(&str, i64, i64, Option<&str>))| {
        let entry =
            json!({ "id": format!("cbtxn_{number}"), "type": kind, "amount": amount, "ending_balance": ending, "invoice": invoice });
        serde_json::from_value(entry).unwrap()
    };
    entries.iter().enumerate().map(entry).collect()
}

#[test]
fn returned_credit_is_distinguished_from_gifts() {
    const APPLIED: &str = "applied_to_invoice";
    let taken = ("x", 0, 0, None);
    for (why, entries, expected) in [
        ("a gift", vec![("adjustment", -3000, -3000, None), (APPLIED, 3000, 0, Some("in_1"))], 0),
        ("overpaid", vec![("invoice_overpaid", -3000, -3000, Some("in_0")), (APPLIED, 3000, 0, Some("in_1"))], 0),
        ("a smaller plan", vec![(APPLIED, -5000, -5000, Some("in_0")), (APPLIED, 3000, -2000, Some("in_1"))], 3000),
        ("a credit note", vec![("credit_note", -3000, -3000, None), (APPLIED, 3000, 0, Some("in_1"))], 3000),
        (
            "both, the returned part first",
            vec![("adjustment", -2000, -2000, None), (APPLIED, -1000, -3000, Some("in_0")), (APPLIED, 3000, 0, Some("in_1"))],
            1000,
        ),
        (
            "used up by an earlier invoice",
            vec![
                (APPLIED, -1000, -1000, Some("in_0")),
                (APPLIED, 1000, 0, Some("in_2")),
                ("initial", -9, -9, None),
                (APPLIED, 9, 0, Some("in_1")),
            ],
            0,
        ),
        (
            "given back by a voided invoice",
            vec![
                (APPLIED, -1000, -1000, Some("in_0")),
                (APPLIED, 1000, 0, Some("in_2")),
                ("unapplied_from_invoice", -1000, -1000, Some("in_2")),
                (APPLIED, 1000, 0, Some("in_1")),
            ],
            1000,
        ),
        (
            "paid out by an operator",
            vec![
                (APPLIED, -1000, -1000, Some("in_0")),
                ("adjustment", 1000, 0, None),
                ("adjustment", -5, -5, None),
                (APPLIED, 5, 0, Some("in_1")),
            ],
            0,
        ),
        ("a debt", vec![("invoice_too_small", 30, 30, Some("in_1")), taken], 0),
        ("no entry", vec![], 0),
    ] {
        assert_eq!(returned_part(balance(&entries).iter(), "in_1"), expected, "{why}");
    }
}

#[tokio::test]
async fn a_balance_is_read_to_its_end() {
    let entry = |number: u32, amount: i64, ending: i64, invoice: &str| json!({ "id": format!("cbtxn_{number}"), "type": "applied_to_invoice", "amount": amount, "ending_balance": ending, "invoice": invoice });
    let newest = json!({ "data": [entry(2, 3000, -2000, "in_1")], "has_more": true });
    let (stripe, stub) = serving(vec![Script::json(200, &newest), list(&json!([entry(1, -5000, -5000, "in_0")])), missing()]).await;
    assert_eq!(stripe.returned_earlier("cus_1", "in_1").await, Ok(Some(3000)));
    assert_eq!(stub.requests()[1].line, "GET /v1/customers/cus_1/balance_transactions?limit=100&starting_after=cbtxn_2 HTTP/1.1");
    assert_eq!(stripe.returned_earlier("cus_gone", "in_1").await, Ok(None));
    assert!(stripe.returned_earlier("../x", "in_1").await.is_err());
}
