//! The Lambda of the state machine's `Fetch`.

use oslira_fn_workflow::{Deps, FetchClients, fetch, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    let clients = FetchClients::from_env(&deps)?;
    run(|task| fetch(task.payload, deps.clone(), clients.clone())).await
}
