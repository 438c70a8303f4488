//! The Lambda of the state machine's `Admit`.

use oslira_fn_workflow::{Deps, TaskConfig, admit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    let init = init::<TaskConfig>()?;
    let deps = Deps::new(&init.config, &init);
    deps.warm_up().await;
    run(|task| admit(task.payload, deps.clone())).await
}
