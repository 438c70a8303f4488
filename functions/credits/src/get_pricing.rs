//! `GET /api/credits/pricing`

use oslira_domain::pricing::{BULK_DISCOUNTS, BulkDiscount, CENTS_A_CREDIT, MAX_PURCHASE, MIN_PURCHASE, Quote};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, Problem, Query, Reply, digits};
use schemars::JsonSchema;
use serde::Serialize;

/// How many credits.
#[derive(Debug)]
struct Pricing(Quote);

impl FromFields for Pricing {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let amount = fields.or("amount", digits(MIN_PURCHASE.into(), MAX_PURCHASE.into()), 100);
        i32::try_from(amount).ok().and_then(Quote::of).map(Self)
    }
}

/// A price and how it comes about.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Price")]
struct PriceView {
    currency: &'static str,
    #[serde(flatten)]
    quote: Quote,
    breakdown: Breakdown,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PriceBreakdown")]
struct Breakdown {
    base_price_cents: i64,
    bulk_discounts: [BulkDiscount; 3],
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.public(include_str!("get_pricing.rs")).query::<Pricing>().field("amount", "How many credits.").answers::<PriceView>(200).end();
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
