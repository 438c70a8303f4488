//! `GET /api/credits/pricing`

use oslira_domain::pricing::{BULK_DISCOUNTS, BulkDiscount, CENTS_A_CREDIT, MAX_PURCHASE, MIN_PURCHASE, Quote};
use oslira_http::{Fields, FromFields, Problem, Query, Reply, digits};
use serde::Serialize;

/// How many credits.
#[derive(Debug)]
struct Pricing(Quote);

impl FromFields for Pricing {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let amount = fields.optional("amount", digits(MIN_PURCHASE.into(), MAX_PURCHASE.into())).unwrap_or(100);
        i32::try_from(amount).ok().and_then(Quote::of).map(Self)
    }
}

/// A price and how it comes about.
#[derive(Debug, Serialize)]
struct PriceView {
    currency: &'static str,
    #[serde(flatten)]
    quote: Quote,
    breakdown: Breakdown,
}

#[derive(Debug, Serialize)]
struct Breakdown {
    base_price_cents: i64,
    bulk_discounts: [BulkDiscount; 3],
}

/// What a number of credits costs (100 if not said). Public.
///
/// # Errors
/// `VALIDATION_ERROR` 400 outside 10 to 10,000.
pub async fn get_pricing(query: Query) -> Result<Reply, Problem> {
    let Pricing(quote) = query.read()?;
    let breakdown = Breakdown { base_price_cents: CENTS_A_CREDIT, bulk_discounts: BULK_DISCOUNTS };
    Reply::ok(&PriceView { currency: "usd", quote, breakdown })
}
