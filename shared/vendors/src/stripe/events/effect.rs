//! What events change, in the form in which the database takes it.

use oslira_domain::AccountId;
use serde::Serialize;

/// What an event changes, as `apply_stripe_event` in the database takes it. Amounts are cents, times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// The event changes nothing.
    Ignored,
    /// The customer of an account was created, changed or deleted.
    Customer {
        /// The customer.
        customer: String,
        /// The account.
        account_id: AccountId,
        /// Whether the backend created it for this account. Otherwise a customer paid for the account and named it.
        made_by_us: bool,
        /// Whether it was deleted.
        deleted: bool,
    },
    /// A purchase of credits has been paid.
    Payment {
        /// The Checkout Session.
        session_id: String,
        /// The payment. None if there was nothing to pay.
        payment_intent: Option<String>,
        /// The account that bought.
        account_id: AccountId,
        /// The number of credits.
        credits: i64,
        /// The amount that was paid.
        amount_cents: i64,
        /// The currency of that amount, in which the payment is refunded.
        currency: String,
        /// The currency of the price, which Stripe may have converted into the payer's.
        priced_in: String,
        /// The account's customer.
        customer: Option<String>,
    },
    /// A subscription was created or changed.
    Subscription {
        /// The subscription.
        subscription_id: String,
        /// Its customer. None for one of Accounts v2.
        customer: Option<String>,
        /// Its account, if its metadata names one.
        account_id: Option<AccountId>,
        /// Whether its metadata names an account of another system.
        names_other_account: bool,
        /// Its status, as Stripe names it.
        status: String,
        /// What it consists of: its plan, and other products.
        items: Vec<BilledItem>,
        /// When it was cancelled.
        canceled_at: Option<i64>,
        /// When it ends, if it does.
        cancel_at: Option<i64>,
        /// Whether it ends with the period. With flexible billing Stripe may report that in `cancel_at` alone.
        cancel_at_period_end: bool,
        /// Whether it has ended.
        deleted: bool,
    },
    /// An invoice was paid, its payment failed, or its collection ended.
    Invoice {
        /// The invoice.
        invoice_id: String,
        /// Its customer. None for one of Accounts v2.
        customer: Option<String>,
        /// Its subscription.
        subscription_id: Option<String>,
        /// What came of it.
        status: InvoiceStatus,
        /// The amount that was due.
        amount_due: i64,
        /// The amount that was paid through Stripe: nothing if it was paid from the customer's balance or outside of Stripe.
        amount_paid: i64,
        /// What credit notes took off the amount that was due.
        credit_notes: i64,
        /// What was paid from the customer's balance.
        from_balance: i64,
        /// How much of that earlier invoices had returned: their credits were granted then. None if Stripe does not know the customer (any
        /// longer).
        returned_earlier: Option<i64>,
        /// Its currency.
        currency: String,
        /// Its lines about a subscription: whole periods and prorations, of plans and of other products.
        lines: Vec<BilledItem>,
        /// Whether it has more lines than its event, which contains the first ones only.
        lines_omitted: bool,
        /// Its total, before the customer's credit balance is applied.
        total: i64,
        /// Its account, if the subscription's metadata names one.
        account_id: Option<AccountId>,
        /// Whether the subscription's metadata names an account of another system.
        names_other_account: bool,
        /// Its page at Stripe.
        hosted_invoice_url: Option<String>,
        /// Why it was created, such as `subscription_cycle`.
        billing_reason: Option<String>,
        /// When it was created.
        created: i64,
    },
    /// A payment was refunded or disputed.
    Reversal {
        /// What had been paid: an invoice (`in_…`), or else the payment of a purchase (`pi_…`).
        source: String,
        /// The payment (`pi_…`). An invoice may be paid by several.
        payment: String,
        /// The currency of the amounts: the charge's.
        currency: String,
        /// What happened to it.
        #[serde(flatten)]
        change: Change,
    },
}

/// What came of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// It was paid.
    Paid,
    /// A payment failed, and Stripe tries again.
    Open,
    /// It was voided: it is not owed.
    Void,
    /// It is owed, but is not collected any longer. It may still be paid.
    Uncollectible,
}

/// An item of a subscription, or a line of an invoice about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BilledItem {
    /// The price, which determines the plan, or belongs to another product.
    pub price_id: String,
    /// The amount of a line, negative for a credit. None for an item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// When its period begins. None for a line that settles a change of plans within a period.
    pub period_start: Option<i64>,
    /// When it ends.
    pub period_end: Option<i64>,
}

/// What happened to a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Some of it was refunded.
    Refunded {
        /// How much of the payment is refunded by now. Stripe lowers it when a refund fails.
        total_cents: i64,
        /// How much of that is new.
        step_cents: Option<i64>,
    },
    /// One of its refunds was created or changed.
    Refund {
        /// The refund.
        refund_id: String,
        /// Its amount.
        cents: i64,
        /// Whether it failed or was canceled, so that the money came back to us.
        failed: bool,
    },
    /// It is disputed, or a dispute changed.
    Dispute {
        /// The dispute.
        dispute_id: String,
        /// The disputed amount.
        cents: i64,
        /// What came of it.
        state: DisputeState,
    },
}

impl Change {
    /// Returns the same change with other amounts.
    pub(crate) fn converted(self, convert: impl Fn(i64) -> i64) -> Self {
        match self {
            Self::Refunded { total_cents, step_cents } => {
                Self::Refunded { total_cents: convert(total_cents), step_cents: step_cents.map(convert) }
            }
            Self::Refund { refund_id, cents, failed } => Self::Refund { refund_id, cents: convert(cents), failed },
            Self::Dispute { dispute_id, cents, state } => Self::Dispute { dispute_id, cents: convert(cents), state },
        }
    }
}

/// What came of a dispute so far. The newest event decides: a dispute that was lost may be appealed and won, and the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeState {
    /// It is not decided.
    Open,
    /// The payer has the money, even if an appeal may change that.
    Lost,
    /// We have the money, or it never moved.
    Won,
    /// Its status is not among those that we know.
    Unknown,
}

/// What an event contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Its effect.
    Effect(Effect),
    /// A reversal. Stripe has to be queried for whether the payment had paid an invoice or a purchase.
    Reversal(Reversal),
    /// An invoice that was paid from the balance of its customer. Stripe has to be queried for where the balance came from.
    FromBalance {
        /// The customer.
        customer: String,
        /// The invoice.
        invoice_id: String,
        /// Its effect, which lacks `returned_earlier`.
        effect: Effect,
    },
}

/// A refund or a dispute of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversal {
    /// The payment.
    pub payment_intent: String,
    /// The currency of the amounts. That of a dispute may be the payer's instead of the charge's.
    pub currency: String,
    /// What happened to it.
    pub change: Change,
}

impl Reversal {
    /// Returns the effect of a reversal of a payment that had paid this invoice, if any.
    pub fn of(self, invoice: Option<String>) -> Effect {
        let source = invoice.unwrap_or_else(|| self.payment_intent.clone());
        Effect::Reversal { source, payment: self.payment_intent, currency: self.currency, change: self.change }
    }
}
