//! `POST /api/credits/purchase`

use jiff::Timestamp;
use oslira_db::UserDb;
use oslira_db::credits::{Buyer, PurchaseStart};
use oslira_domain::Credits;
use oslira_domain::pricing::{MAX_PURCHASE, MIN_PURCHASE, Quote};
use oslira_http::openapi::Api;
use oslira_http::{EndpointConfig, Fields, FromFields, Idempotency, PURCHASES, Problem, Reply, Request, endpoint, errors, integer};
use oslira_lambda::{Error, Init};
use oslira_vendors::VendorError;
use oslira_vendors::stripe::{CheckoutSession, CreditPurchase, Stripe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The body of the request, as the price of its credits.
#[derive(Debug)]
struct PurchaseCredits(Quote);

impl FromFields for PurchaseCredits {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let amount = fields.required("amount", integer(MIN_PURCHASE.into(), MAX_PURCHASE.into()))?;
        i32::try_from(amount).ok().and_then(Quote::of).map(Self)
    }
}

/// An open checkout.
#[derive(Debug, Serialize, JsonSchema)]
struct Purchase {
    session_id: String,
    checkout_url: String,
    status: &'static str,
    currency: &'static str,
    #[serde(flatten)]
    quote: Quote,
    expires_at: Timestamp,
    message: &'static str,
}

/// What the endpoint is configured with.
#[derive(Debug, Deserialize)]
pub struct PurchaseConfig {
    /// Authentication and limits.
    pub endpoint: EndpointConfig,
    /// Stripe's API.
    pub stripe_base_url: String,
    /// The web app that Stripe's pages lead back to.
    pub app_url: String,
}

/// Stripe, and the web app that its pages lead back to.
#[derive(Clone)]
pub struct Checkout {
    stripe: Stripe,
    app_url: String,
}

impl Checkout {
    /// Returns the checkout that the configuration names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(Init { config, secrets, .. }: Init<PurchaseConfig>) -> Result<Self, Error> {
        let stripe = Stripe::new(oslira_vendors::http_client()?, config.stripe_base_url, secrets.credential("stripe"));
        Ok(Self { stripe, app_url: config.app_url.trim_end_matches('/').to_owned() })
    }

    /// Opens a checkout. The account's customer is created once: its idempotency key is the account's, so that concurrent purchases get the
    /// same one. It is stored when Stripe's event reports it; users' endpoints may not store it.
    async fn open(&self, buyer: &Buyer, work_id: &str, quote: &Quote) -> Result<CheckoutSession, VendorError> {
        let account_id = buyer.account_id;
        let customer = match &buyer.customer {
            Some(customer) => customer.clone(),
            None => self.stripe.create_customer(account_id, buyer.email.as_deref()).await?,
        };
        let purchase = CreditPurchase {
            account_id,
            customer: &customer,
            credits: Credits(quote.amount),
            total_cents: quote.total_cents,
            success_url: &format!("{}/credits?checkout=success&session_id={{CHECKOUT_SESSION_ID}}", self.app_url),
            cancel_url: &format!("{}/credits?checkout=cancelled", self.app_url),
            idempotency_key: &format!("purchase:{account_id}:{work_id}"),
        };
        self.stripe.create_checkout_session(&purchase).await
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .body::<PurchaseCredits>()
        .field("amount", "The number of credits.")
        .idempotent()
        .limited(&[PURCHASES])
        .responds::<Purchase>(201)
        .requires_account()
        .refuses(&errors::READ_ONLY)
        .end();
}

/// Opens a Stripe checkout and returns its URL. The credits are granted when Stripe reports the payment. Requires at least the role
/// `member`.
///
/// Repeating the request with the same `Idempotency-Key` returns the first response and does not open a second checkout.
#[endpoint(POST, "/api/credits/purchase")]
pub async fn purchase_credits(request: Request, db: UserDb, checkout: Checkout) -> Result<Reply, Problem> {
    let PurchaseCredits(quote) = request.body()?;
    let idempotency = Idempotency::of(&request)?;
    let caller = &request.caller;
    let work_id = Uuid::now_v7().to_string();
    let start = db.begin_purchase(&caller.claims(), caller.requested_account, idempotency.key(), &work_id).await?;
    let (buyer, claim) = match start {
        PurchaseStart::Ready { buyer, claim } => (buyer, claim),
        PurchaseStart::NoAccount => return Err(Problem::no_account(caller.requested_account)),
        PurchaseStart::Forbidden => return Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot buy credits.")),
    };
    tracing::Span::current().record("account_id", buyer.account_id.to_string());
    let open = async |work_id: &str| {
        let opened = checkout.open(&buyer, work_id, &quote).await;
        let session = opened.map_err(|error| if error.is_retryable() { Problem::unavailable(error) } else { Problem::internal(error) })?;
        Reply::created(&Purchase {
            session_id: session.id,
            checkout_url: session.url,
            status: "open",
            currency: "usd",
            quote,
            expires_at: session.expires_at,
            message: "Open checkout_url to pay. The credits are granted when the payment arrives.",
        })
    };
    idempotency.once(&db, buyer.account_id, claim, open).await
}
