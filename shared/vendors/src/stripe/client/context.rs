//! What events do not carry and Stripe has to be queried for.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Stripe, id};
use crate::VendorError;
use crate::stripe::{CURRENCY, Effect, Reading, Reversal};

/// How many pages of a customer's balance are read, of 100 entries each.
const PAGES: usize = 20;

#[derive(Deserialize)]
struct List<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct InvoicePayment {
    invoice: Value,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Charge {
    amount: i64,
    currency: String,
    status: String,
    presentment_details: Option<Presentment>,
}

#[derive(Deserialize)]
struct Presentment {
    presentment_amount: i64,
    presentment_currency: String,
}

/// An entry of a customer's balance, where credit is negative.
#[derive(Debug, Deserialize)]
struct BalanceEntry {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    amount: i64,
    ending_balance: i64,
    invoice: Option<Value>,
}

impl BalanceEntry {
    fn invoice(&self) -> &str {
        self.invoice.as_ref().and_then(id_of).unwrap_or_default()
    }
}

/// Returns the id of an object that may be in the place of its id.
fn id_of(object: &Value) -> Option<&str> {
    object.as_str().or_else(|| object["id"].as_str())
}

impl Stripe {
    /// Returns what an event changes, with what the event does not carry.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn complete(&self, reading: Reading) -> Result<Effect, VendorError> {
        match reading {
            Reading::Effect(effect) => Ok(effect),
            Reading::Reversal(reversal) => {
                let invoice = self.invoice_of_payment(&reversal.payment_intent).await?;
                let reversal = if reversal.currency == CURRENCY { Some(reversal) } else { self.in_currency_of_charge(reversal).await? };
                Ok(reversal.map_or(Effect::Ignored, |reversal| reversal.of(invoice)))
            }
            Reading::FromBalance { customer, invoice_id, mut effect } => {
                if let Effect::Invoice { returned_earlier, .. } = &mut effect {
                    *returned_earlier = self.returned_earlier(&customer, &invoice_id).await?;
                }
                Ok(effect)
            }
        }
    }

    /// Returns the invoice (`in_…`) that a payment (`pi_…`) pays, if it pays one. Neither the payment nor its charge contains it.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn invoice_of_payment(&self, payment_intent: &str) -> Result<Option<String>, VendorError> {
        let query = [("payment[type]", "payment_intent"), ("payment[payment_intent]", payment_intent)];
        let found: List<InvoicePayment> = self.list("invoice_payments", &query).await?;
        // A payment that was taken off an invoice is still listed with it.
        let payment = found.data.iter().find(|payment| payment.status == "paid").or(found.data.first());
        payment.and_then(|payment| id_of(&payment.invoice)).map(|text| id(text.to_owned())).transpose()
    }

    /// Converts the amounts of a reversal into the currency of the payment's charge. A dispute may be in the currency that the payer saw.
    /// None if there is no such charge. Amounts in a third currency stay: the database rejects them if the payment is ours.
    async fn in_currency_of_charge(&self, reversal: Reversal) -> Result<Option<Reversal>, VendorError> {
        let listed = self.list("charges", &[("payment_intent", &reversal.payment_intent)]).await;
        let Some(attempts): Option<List<Charge>> = unless_missing(listed)? else { return Ok(None) };
        let Some(charge) = attempts.data.into_iter().find(|attempt| attempt.status == "succeeded") else { return Ok(None) };
        let presented = charge.presentment_details.filter(|presented| {
            presented.presentment_currency.eq_ignore_ascii_case(&reversal.currency) && presented.presentment_amount > 0
        });
        match presented {
            Some(presented) if !charge.currency.eq_ignore_ascii_case(&reversal.currency) => {
                let convert = |amount: i64| scaled(amount, charge.amount, presented.presentment_amount);
                let converted = reversal.change.converted(convert);
                Ok(Some(Reversal { currency: charge.currency.to_ascii_lowercase(), change: converted, ..reversal }))
            }
            _ => Ok(Some(reversal)),
        }
    }

    /// Returns how much of what an invoice took from its customer's balance had been returned by earlier invoices and their credit notes. The
    /// rest is a gift, or money that has not bought anything. None if Stripe does not know the customer.
    async fn returned_earlier(&self, customer: &str, invoice: &str) -> Result<Option<i64>, VendorError> {
        let path = format!("customers/{}/balance_transactions", id(customer.to_owned())?);
        let mut entries: Vec<BalanceEntry> = Vec::new();
        for _ in 0..PAGES {
            let after = entries.last().map(|entry| ("starting_after", entry.id.as_str()));
            let query: Vec<(&str, &str)> = std::iter::once(("limit", "100")).chain(after).collect();
            let Some(page): Option<List<BalanceEntry>> = unless_missing(self.list(&path, &query).await)? else { return Ok(None) };
            let is_last = !page.has_more || page.data.is_empty();
            entries.extend(page.data);
            if is_last {
                // Stripe lists the newest first.
                return Ok(Some(returned_part(entries.iter().rev(), invoice)));
            }
        }
        Err(VendorError::Invalid("a balance with too many entries"))
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<List<T>, VendorError> {
        let url = format!("{}/v1/{path}", self.base_url);
        self.send(|| self.http.get(&url).query(query)).await?.json()
    }
}

/// Turns the rejection of an unknown object into none.
fn unless_missing<T>(found: Result<T, VendorError>) -> Result<Option<T>, VendorError> {
    match found {
        Err(VendorError::Rejected { status: 404, .. }) => Ok(None),
        Err(VendorError::Rejected { code, .. }) if code == "resource_missing" => Ok(None),
        found => found.map(Some),
    }
}

/// Returns `amount · whole / of`, rounded, and the whole for an amount that is not smaller than `of`.
fn scaled(amount: i64, whole: i64, of: i64) -> i64 {
    let product = i128::from(amount) * i128::from(whole);
    let (half, of) = (i128::from(of) / 2, i128::from(of));
    let rounded = (product + if product < 0 { -half } else { half }) / of;
    i64::try_from(rounded).unwrap_or(i64::MAX).min(whole)
}

/// Returns the part of what an invoice took from the balance that other invoices had returned, from the entries of the balance, the oldest
/// first. Credit that was returned is used up before other credit.
fn returned_part<'a>(entries: impl Iterator<Item = &'a BalanceEntry>, invoice: &str) -> i64 {
    let mut returned = 0;
    let mut taken: HashMap<&str, i64> = HashMap::new();
    for entry in entries {
        match (entry.kind.as_str(), entry.amount) {
            // An invoice whose total is negative, or a credit note of a paid invoice.
            ("applied_to_invoice" | "credit_note", amount) if amount < 0 => returned -= amount,
            ("applied_to_invoice", amount) => {
                let part = amount.min(returned);
                returned -= part;
                *taken.entry(entry.invoice()).or_default() += part;
            }
            // A voided invoice gives back what it took.
            ("unapplied_from_invoice", _) => returned += taken.remove(entry.invoice()).unwrap_or_default(),
            _ => {}
        }
        returned = returned.min(-entry.ending_balance).max(0);
    }
    taken.get(invoice).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
