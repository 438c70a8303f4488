//! The Lambda of the state machine's `Save`.

use oslira_aws::profiles::Profiles;
use oslira_fn_workflow::{Deps, SaveConfig, run, save};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    let init = init::<SaveConfig>()?;
    let deps = Deps::new(&init.config.task, &init);
    let profiles = Profiles::new(&init.aws, init.config.profile_bucket);
    deps.warm_up().await;
    run(|task| save(task.payload, deps.clone(), profiles.clone())).await
}
