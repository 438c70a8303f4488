//! The Lambda of the state machine's `Compensate`, and of the queue of executions that ended without it.

use oslira_fn_workflow::{Deps, TaskConfig, serve_compensate};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    let init = init::<TaskConfig>()?;
    let deps = Deps::new(&init.config, &init);
    deps.warm_up().await;
    serve_compensate(deps).await
}
