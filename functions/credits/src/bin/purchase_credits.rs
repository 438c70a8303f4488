//! The Lambda of `POST /api/credits/purchase`.

use oslira_fn_credits::{Checkout, PurchaseConfig, purchase_credits};
use oslira_http::{Endpoint, PURCHASES, RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<PurchaseConfig>()?;
    let Endpoint { guard, db } = Endpoint::new(&init.config.endpoint, &init);
    let checkout = Checkout::new(init)?;
    run(guard, RateLimit::Before(PURCHASES), move |request| purchase_credits(request, db.clone(), checkout.clone())).await
}
