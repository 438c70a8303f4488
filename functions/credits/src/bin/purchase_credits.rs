//! The Lambda of `POST /api/credits/purchase`.

use oslira_fn_credits::{Checkout, purchase_credits};
use oslira_http::{Access, Environment, PURCHASES, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, secrets, .. } = Environment::start()?;
    let checkout = Checkout::from_env(secrets)?;
    run(gateway, Access::Write(PURCHASES), move |request| purchase_credits(request, db.clone(), checkout.clone())).await
}
