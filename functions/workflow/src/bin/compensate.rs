//! The Lambda of the state machine's `Compensate`, and of the queue of executions that ended without it.

use oslira_fn_workflow::{Deps, serve_compensate};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve_compensate(Deps::from_env()?).await
}
