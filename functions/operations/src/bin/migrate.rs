//! The Lambda that brings the schema up to date, for CloudFormation and by hand.

use oslira_fn_operations::{Migrator, migrate};
use oslira_lambda::{direct, init};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    direct::run("MIGRATION_FAILED", Migrator::new(init::<()>()?), migrate).await
}
