//! The Lambda of `GET /api/credits/pricing`.

use oslira_fn_credits::get_pricing;
use oslira_http::public;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    oslira_http::start_logging();
    public(get_pricing).await
}
