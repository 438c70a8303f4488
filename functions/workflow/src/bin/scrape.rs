//! The Lambda of the state machine's `Scrape`.

use oslira_fn_workflow::{Deps, Scraper, run, scrape};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deps = Deps::from_env()?;
    let scraper = Scraper::from_env(&deps)?;
    run(|task| scrape(task.payload, deps.clone(), scraper.clone())).await
}
