//! The Lambda of the state machine's `Compensate`.

use oslira_fn_workflow::{Deps, compensate, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env().await?;
    run(|task| compensate(task.payload, deps.clone())).await
}
