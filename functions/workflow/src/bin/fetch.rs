//! The Lambda of the state machine's `Fetch`.

use oslira_fn_workflow::{Deps, FetchClients, FetchConfig, fetch, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    let init = init::<FetchConfig>()?;
    let deps = Deps::new(&init.config.task, &init);
    let clients = FetchClients::new(&deps, init)?;
    deps.warm_up().await;
    run(|task| fetch(task.payload, deps.clone(), clients.clone())).await
}
