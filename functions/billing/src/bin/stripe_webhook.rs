//! The Lambda of `POST /api/webhooks/stripe`.

use oslira_fn_billing::{Receiver, stripe_webhook};
use oslira_http::signed;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let receiver = Receiver::from_env()?;
    signed(move |delivery| stripe_webhook(delivery, receiver.clone())).await
}
