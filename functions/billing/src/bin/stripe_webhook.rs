//! The Lambda of `POST /api/webhooks/stripe`.

use oslira_fn_billing::{StripeWebhook, WebhookConfig, stripe_webhook};
use oslira_http::run_webhook;
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let webhook = StripeWebhook::new(init::<WebhookConfig>()?);
    webhook.warm_up().await;
    run_webhook(move |delivery| stripe_webhook(delivery, webhook.clone())).await
}
