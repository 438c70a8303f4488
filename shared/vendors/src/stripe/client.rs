//! Calls to Stripe.

mod context;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_credential::{Credential, CredentialError};
use oslira_domain::{AccountId, Credits};
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::API_VERSION;
use crate::VendorError;
use crate::wire::{Reply, code};

/// The timeout of one attempt. Stripe nearly always responds within a second.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// The time limit of a call with its retries. An endpoint that makes two calls still responds within API Gateway's 30 seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// How often a call is retried.
const RETRIES: u32 = 2;
/// The pause before the first retry. The second one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
const MAX_BYTES: usize = 1 << 20;

/// The secret `stripe`.
#[derive(Debug, Clone, Deserialize)]
pub struct StripeSecret {
    /// The API key.
    pub api_key: SecretString,
}

impl StripeSecret {
    /// Whether the key is for real money.
    fn is_live(&self) -> bool {
        ["sk_live_", "rk_live_"].iter().any(|prefix| self.api_key.expose_secret().starts_with(prefix))
    }
}

/// The client. Every call is retried if Stripe allows it. Calls that change something carry an idempotency key.
#[derive(Debug, Clone)]
pub struct Stripe {
    http: Client,
    base_url: String,
    secret: Credential<StripeSecret>,
    pause: Duration,
}

/// A purchase of credits, paid once.
#[derive(Debug, Clone, Copy)]
pub struct CreditPurchase<'a> {
    /// The account that buys.
    pub account_id: AccountId,
    /// The account's customer.
    pub customer: &'a str,
    /// The number of credits.
    pub credits: Credits,
    /// Their total price in US cents.
    pub total_cents: i64,
    /// Where the browser goes after paying. Stripe replaces `{CHECKOUT_SESSION_ID}` with the session's id.
    pub success_url: &'a str,
    /// Where the browser goes when the buyer cancels.
    pub cancel_url: &'a str,
    /// At most 255 characters. For a day, the same key returns the same session, and an error for another purchase.
    pub idempotency_key: &'a str,
}

/// A page of Stripe's where a purchase is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckoutSession {
    /// Stripe's id of the session (`cs_…`).
    pub id: String,
    /// The page's address.
    pub url: String,
    /// When the session expires.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

#[derive(Deserialize)]
struct SessionBody {
    id: String,
    url: Option<String>,
    expires_at: i64,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
}

impl Stripe {
    /// Makes a client of the API at `base_url`, without `/v1`. Stripe's own is `https://api.stripe.com`.
    pub fn new(http: Client, base_url: impl Into<String>, secret: Credential<StripeSecret>) -> Self {
        let base_url: String = base_url.into();
        Self { http, base_url: base_url.trim_end_matches('/').to_owned(), secret, pause: PAUSE }
    }

    /// Whether the API key is one of live mode, if `livemode`, or of test mode. A key of the other mode is fetched again first.
    ///
    /// # Errors
    /// Fails with [`CredentialError`] when there is no key.
    pub async fn has_key_of_mode(&self, livemode: bool) -> Result<bool, CredentialError> {
        Ok(self.secret.current().await?.is_live() == livemode || self.secret.renewed().await?.is_live() == livemode)
    }

    /// Creates the account's customer and returns its id (`cus_…`). Concurrent and repeated calls with the same `email` return the same
    /// customer for a day.
    ///
    /// Stripe rejects another body under a known idempotency key, so another address makes another key. It also keeps a response of 500 under
    /// its key for that day: the creation is then repeated under a second key. Either may leave an unused customer, which costs nothing,
    /// whereas an account without a customer could not pay.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn create_customer(&self, account_id: AccountId, email: Option<&str>) -> Result<String, VendorError> {
        let account = account_id.to_string();
        let mut form = vec![("metadata[account_id]", account.as_str())];
        form.extend(email.map(|email| ("email", email)));
        let address = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, email.unwrap_or_default().as_bytes());
        let key = format!("customer:{account}:{}", hex::encode(&address.as_ref()[..8]));
        let reply = match self.post("customers", &form, &key).await {
            Err(VendorError::Overloaded(500)) => self.post("customers", &form, &format!("{key}:2")).await,
            other => other,
        };
        let created: Created = reply?.json()?;
        id(created.id)
    }

    /// Creates a page where the purchase can be paid. Events report the payment; they carry the purchase in their metadata.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn create_checkout_session(&self, purchase: &CreditPurchase<'_>) -> Result<CheckoutSession, VendorError> {
        let (account, credits, cents) = (purchase.account_id.to_string(), purchase.credits.to_string(), purchase.total_cents.to_string());
        let product = format!("{credits} Oslira credits");
        let form = [
            ("mode", "payment"),
            ("customer", purchase.customer),
            ("client_reference_id", &account),
            ("success_url", purchase.success_url),
            ("cancel_url", purchase.cancel_url),
            ("line_items[0][quantity]", "1"),
            ("line_items[0][price_data][currency]", "usd"),
            ("line_items[0][price_data][unit_amount]", &cents),
            ("line_items[0][price_data][product_data][name]", &product),
            ("metadata[kind]", "credits"),
            ("metadata[account_id]", &account),
            ("metadata[credits]", &credits),
            ("metadata[total_cents]", &cents),
            // Also on the payment, where Stripe's dashboard displays it.
            ("payment_intent_data[metadata][kind]", "credits"),
            ("payment_intent_data[metadata][account_id]", &account),
            ("payment_intent_data[metadata][credits]", &credits),
            ("payment_intent_data[metadata][total_cents]", &cents),
        ];
        let session: SessionBody = self.post("checkout/sessions", &form, purchase.idempotency_key).await?.json()?;
        Ok(CheckoutSession {
            id: id(session.id)?,
            url: session.url.ok_or(VendorError::Invalid("a session without an address"))?,
            expires_at: Timestamp::from_second(session.expires_at).map_err(|_| VendorError::Invalid("a time out of range"))?,
        })
    }

    async fn post(&self, path: &str, form: &[(&str, &str)], idempotency_key: &str) -> Result<Reply, VendorError> {
        let url = format!("{}/v1/{path}", self.base_url);
        self.send(|| self.http.post(&url).form(form).header("idempotency-key", idempotency_key)).await
    }

    /// Sends a request, with a renewed key if the current one is refused.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Reply, VendorError> {
        let request = &request;
        self.secret.with(|secret| async move { self.send_with(&secret.api_key, request).await }).await
    }

    /// Sends a request until Stripe responds with success, says that a retry is useless, or the time is up.
    async fn send_with(&self, api_key: &SecretString, request: impl Fn() -> RequestBuilder) -> Result<Reply, VendorError> {
        let started = Instant::now();
        let mut retries = 0;
        loop {
            let timeout = ATTEMPT_TIMEOUT.min(CALL_TIMEOUT.saturating_sub(started.elapsed()));
            let request = request().bearer_auth(api_key.expose_secret()).header("stripe-version", API_VERSION);
            let (error, again, retry_after) = match Reply::to(request, timeout, MAX_BYTES).await {
                Ok(reply) if reply.status.is_success() => return Ok(reply),
                Ok(reply) => {
                    let error = failure(&reply);
                    let again = should_retry(&reply.headers).unwrap_or_else(|| error.is_retryable());
                    (error, again, reply.retry_after())
                }
                Err(error) => {
                    let again = error.is_retryable();
                    (error, again, None)
                }
            };
            let pause = (self.pause * 2_u32.pow(retries)).mul_f64(rand::random_range(0.5..=1.0)).max(retry_after.unwrap_or_default());
            // Another attempt needs at least a second.
            if !again || retries == RETRIES || started.elapsed() + pause + Duration::from_secs(1) > CALL_TIMEOUT {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            retries += 1;
        }
    }
}

/// Returns whether Stripe says to retry, if it does.
fn should_retry(headers: &HeaderMap) -> Option<bool> {
    headers.get("stripe-should-retry")?.to_str().ok()?.parse().ok()
}

/// Checks an id of Stripe's, which is used in the database and in URLs.
fn id(text: String) -> Result<String, VendorError> {
    let valid = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if valid { Ok(text) } else { Err(VendorError::Invalid("a malformed id")) }
}

fn failure(reply: &Reply) -> VendorError {
    let body = reply.json::<ErrorEnvelope>().ok().map(|body| body.error);
    let code = code(body.as_ref().and_then(|error| error.code.as_deref().or(error.kind.as_deref())));
    match reply.status.as_u16() {
        // For Stripe this means a declined card.
        402 => VendorError::Rejected { status: 402, code },
        _ => reply.error(code),
    }
}

#[cfg(test)]
mod tests;
