//! The Lambda of the state machine's `CheckCache`.

use oslira_aws::lookups::Lookups;
use oslira_aws::profiles::Profiles;
use oslira_fn_workflow::{Deps, check_cache, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    let profiles = Profiles::from_env(&deps.config)?;
    let lookups = Lookups::from_env(&deps.config)?;
    run(|task| check_cache(task.payload, deps.clone(), profiles.clone(), lookups.clone())).await
}
