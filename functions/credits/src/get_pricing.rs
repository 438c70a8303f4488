//! `GET /api/credits/pricing`

use oslira_domain::pricing::{BULK_DISCOUNTS, BulkDiscount, CENTS_A_CREDIT, MAX_PURCHASE, MIN_PURCHASE, Quote};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, Problem, Query, Reply, endpoint, integer_param};
use schemars::JsonSchema;
use serde::Serialize;

/// The parameter of the query, as its price.
#[derive(Debug)]
struct Pricing(Quote);

impl FromFields for Pricing {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let amount = fields.or_default("amount", integer_param(MIN_PURCHASE.into(), MAX_PURCHASE.into()), 100);
        i32::try_from(amount).ok().and_then(Quote::of).map(Self)
    }
}

/// A price and its parts.
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

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.public(ROUTE).query::<Pricing>().field("amount", "The number of credits.").responds::<PriceView>(200).end();
}

/// Returns the price of a number of credits (by default 100). Requires no authentication.
#[endpoint(GET, "/api/credits/pricing")]
pub async fn get_pricing(query: Query) -> Result<Reply, Problem> {
    let Pricing(quote) = query.read()?;
    let breakdown = Breakdown { base_price_cents: CENTS_A_CREDIT, bulk_discounts: BULK_DISCOUNTS };
    Reply::ok(&PriceView { currency: "usd", quote, breakdown })
}
