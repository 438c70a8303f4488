//! The Lambda of the state machine's `Analyze`.

use oslira_fn_workflow::{AnalyzeClients, AnalyzeConfig, Deps, analyze, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    let init = init::<AnalyzeConfig>()?;
    let deps = Deps::new(&init.config.task, &init);
    let clients = AnalyzeClients::new(init)?;
    deps.warm_up().await;
    run(|task| analyze(task, deps.clone(), clients.clone())).await
}
