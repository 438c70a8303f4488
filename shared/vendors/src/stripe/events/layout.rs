//! The objects of Stripe's events, as far as they are used, in the layout of [`API_VERSION`](crate::stripe::API_VERSION).

use oslira_domain::AccountId;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{CURRENCY, InvalidEvent};

/// Reads an event's object.
///
/// # Errors
/// Names the field that is missing or malformed. The error does not contain its value.
pub(super) fn read<T: DeserializeOwned>(object: &Value) -> Result<T, InvalidEvent> {
    serde_path_to_error::deserialize(object).map_err(|error| {
        let message = error.inner().to_string();
        // The only message of serde's that has no value in it. It names the field, and the path ends above it.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        match missing {
            Some((field, _)) => InvalidEvent::missing(format!("{}/{field}", pointer(error.path()))),
            None => InvalidEvent { path: pointer(error.path()), problem: "is malformed" },
        }
    })
}

/// Returns a path as a JSON pointer.
fn pointer(path: &Path) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{key}"),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}

/// The id of an object, which may be in the place of its id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Expandable")]
pub(super) struct Id(pub(super) String);

#[derive(Deserialize)]
#[serde(untagged)]
enum Expandable {
    Id(String),
    Object { id: String },
}

impl TryFrom<Expandable> for Id {
    type Error = &'static str;

    fn try_from(expandable: Expandable) -> Result<Self, Self::Error> {
        let (Expandable::Id(id) | Expandable::Object { id }) = expandable;
        if id.is_empty() { Err("an empty id") } else { Ok(Self(id)) }
    }
}

/// A positive number in metadata, where every value is a text.
fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = String::deserialize(deserializer)?.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| D::Error::custom("no positive number"))
}

/// Metadata that may name an account, of ours or of another system that uses the same Stripe account.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AccountMetadata {
    account_id: Option<String>,
}

/// The account that metadata names.
pub(super) struct NamedAccount {
    /// The account, if it has the form of ours.
    pub(super) account_id: Option<AccountId>,
    /// Whether the name has another form.
    pub(super) names_other_account: bool,
}

impl From<AccountMetadata> for NamedAccount {
    fn from(metadata: AccountMetadata) -> Self {
        let account_id = metadata.account_id.as_deref().and_then(|text| text.parse().ok());
        Self { account_id, names_other_account: metadata.account_id.is_some() && account_id.is_none() }
    }
}

#[derive(Deserialize)]
pub(super) struct Customer {
    pub(super) id: Id,
    pub(super) metadata: Option<AccountMetadata>,
}

/// What decides whether a Checkout Session is a purchase.
#[derive(Deserialize)]
pub(super) struct Session {
    pub(super) mode: String,
    pub(super) customer: Option<Id>,
    pub(super) client_reference_id: Option<String>,
    pub(super) metadata: Option<KindMetadata>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct KindMetadata {
    pub(super) kind: Option<String>,
}

/// What decides whether a purchase is paid.
#[derive(Deserialize)]
pub(super) struct Purchase {
    pub(super) client_reference_id: Option<AccountId>,
    pub(super) metadata: AccountMetadata,
    pub(super) payment_status: String,
}

#[derive(Deserialize)]
pub(super) struct PaidPurchase {
    pub(super) id: Id,
    pub(super) payment_intent: Option<Id>,
    pub(super) amount_subtotal: i64,
    pub(super) amount_total: i64,
    pub(super) currency: String,
    pub(super) metadata: PurchaseMetadata,
    currency_conversion: Option<Conversion>,
    presentment_details: Option<Presentment>,
}

/// Versions before `clover`: the session has the payer's currency, and this is the price in ours.
#[derive(Deserialize)]
struct Conversion {
    source_currency: String,
    amount_subtotal: i64,
}

/// What the payer paid in another currency. Since `basil` the session and its payment keep the currency of the price.
#[derive(Deserialize)]
struct Presentment {
    presentment_currency: String,
}

impl PaidPurchase {
    /// Returns the currency of the price, and the price in it. There is no price if only the amount that the payer saw is known.
    pub(super) fn price(&self) -> (&str, Option<i64>) {
        match (&self.currency_conversion, &self.presentment_details) {
            (Some(conversion), _) => (&conversion.source_currency, Some(conversion.amount_subtotal)),
            (None, Some(presented)) if presented.presentment_currency == self.currency && self.currency != CURRENCY => (CURRENCY, None),
            _ => (&self.currency, Some(self.amount_subtotal)),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct PurchaseMetadata {
    #[serde(deserialize_with = "positive")]
    pub(super) credits: i64,
    #[serde(deserialize_with = "positive")]
    pub(super) total_cents: i64,
}

/// Since the version `basil` the period is each item's.
#[derive(Deserialize)]
pub(super) struct Subscription {
    pub(super) id: Id,
    pub(super) customer: Option<Id>,
    pub(super) metadata: Option<AccountMetadata>,
    pub(super) status: String,
    pub(super) items: List<SubscriptionItem>,
    pub(super) canceled_at: Option<i64>,
    pub(super) cancel_at: Option<i64>,
    pub(super) cancel_at_period_end: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct SubscriptionItem {
    pub(super) price: Id,
    pub(super) current_period_start: i64,
    pub(super) current_period_end: i64,
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Invoice {
    pub(super) id: Id,
    pub(super) customer: Option<Id>,
    /// Null for an invoice without a subscription. Absent before the version `basil`, where the subscription was elsewhere.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) parent: Option<InvoiceParent>,
    pub(super) amount_due: i64,
    pub(super) amount_paid: i64,
    pub(super) currency: String,
    pub(super) lines: List<Value>,
    pub(super) total: i64,
    pub(super) pre_payment_credit_notes_amount: Option<i64>,
    pub(super) hosted_invoice_url: Option<String>,
    pub(super) billing_reason: Option<String>,
    pub(super) created: i64,
}

#[derive(Deserialize)]
pub(super) struct InvoiceParent {
    pub(super) subscription_details: Option<SubscriptionDetails>,
}

#[derive(Deserialize)]
pub(super) struct SubscriptionDetails {
    pub(super) subscription: Option<Id>,
    pub(super) metadata: Option<AccountMetadata>,
}

/// What decides whether a line is about a subscription. Other lines may have any layout.
#[derive(Deserialize)]
pub(super) struct LineKind {
    pub(super) parent: Option<LineParent>,
}

#[derive(Deserialize)]
pub(super) struct LineParent {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    subscription_item_details: Option<Proration>,
    invoice_item_details: Option<Proration>,
}

#[derive(Deserialize)]
struct Proration {
    proration: Option<bool>,
}

impl LineParent {
    /// Whether the line settles a change of plans. Stripe reports that in one of two places, depending on how the subscription is billed.
    pub(super) fn is_proration(&self) -> bool {
        [&self.subscription_item_details, &self.invoice_item_details]
            .into_iter()
            .any(|details| details.as_ref().is_some_and(|details| details.proration == Some(true)))
    }
}

#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) amount: i64,
    pub(super) pricing: Option<Pricing>,
    pub(super) period: Option<Period>,
}

#[derive(Deserialize)]
pub(super) struct Pricing {
    pub(super) price_details: Option<PriceDetails>,
}

#[derive(Deserialize)]
pub(super) struct PriceDetails {
    pub(super) price: Id,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct Period {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// What a refund or a dispute is about.
#[derive(Deserialize)]
pub(super) struct Payment {
    pub(super) payment_intent: Option<Id>,
    pub(super) currency: String,
}

#[derive(Deserialize)]
pub(super) struct Charge {
    pub(super) amount_refunded: i64,
}

#[derive(Deserialize)]
pub(super) struct Refund {
    pub(super) id: Id,
    pub(super) amount: i64,
    pub(super) status: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Dispute {
    pub(super) id: Id,
    pub(super) amount: i64,
    pub(super) status: String,
    payment_method_details: Option<DisputedMethod>,
}

#[derive(Deserialize)]
struct DisputedMethod {
    card: Option<DisputedCard>,
}

#[derive(Deserialize)]
struct DisputedCard {
    case_type: Option<String>,
}

impl Dispute {
    /// Whether it is an inquiry, or was prevented or blocked before any money moved.
    pub(super) fn moves_no_money(&self) -> bool {
        let card = self.payment_method_details.as_ref().and_then(|details| details.card.as_ref());
        self.status.starts_with("warning_")
            || self.status == "prevented"
            || card.is_some_and(|card| card.case_type.as_deref() == Some("block"))
    }
}
