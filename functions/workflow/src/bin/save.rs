//! The Lambda of the state machine's `Save`.

use oslira_aws::profiles::Profiles;
use oslira_fn_workflow::{Deps, run, save};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    let profiles = Profiles::from_env(&deps.config)?;
    run(|task| save(task.payload, deps.clone(), profiles.clone())).await
}
