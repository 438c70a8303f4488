//! The Lambda of the state machine's `Admit`.

use oslira_fn_workflow::{Deps, admit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    run(|task| admit(task.payload, deps.clone())).await
}
