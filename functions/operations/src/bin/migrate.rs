//! The Lambda that brings the schema up to date, for CloudFormation and by hand.

use oslira_fn_operations::{Migrator, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve(Migrator::from_env()?).await
}
