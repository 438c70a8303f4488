//! The Lambda of `GET /api/credits/pricing`.

use oslira_fn_credits::get_pricing;
use oslira_http::public;
use oslira_lambda::init_logging;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    init_logging()?;
    public(get_pricing).await
}
