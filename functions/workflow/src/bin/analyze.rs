//! The Lambda of the state machine's `Analyze`.

use oslira_fn_workflow::{Asker, Deps, analyze, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    let asker = Asker::from_env(&deps)?;
    run(|task| analyze(task, deps.clone(), asker.clone())).await
}
