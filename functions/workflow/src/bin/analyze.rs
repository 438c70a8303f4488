//! The Lambda of the state machine's `Analyze`.

use oslira_fn_workflow::{AnalyzeClients, Deps, analyze, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    let clients = AnalyzeClients::from_env(&deps)?;
    run(|task| analyze(task, deps.clone(), clients.clone())).await
}
