//! `Analyze`: step 9, all of the tier's questions at once.

use futures::future::join_all;
use jiff::Timestamp;
use oslira_aws::profiles::Profiles;
use oslira_domain::{Call, Step};
use oslira_lambda::{Error, Event, Init};
use oslira_vendors::{Catalogue, Endpoint, Endpoints, ModelClient, ModelSecrets};
use serde_json::Value;

use crate::config::AnalyzeConfig;
use crate::error::TaskError;
use crate::question::{Questions, question};
use crate::state::{AnalyzeInput, StepsEnded};
use crate::task::{Deps, ensure_active, input};
use crate::timing::between;

/// The clients of this task.
#[derive(Clone)]
pub struct AnalyzeClients {
    models: ModelClient,
    profiles: Profiles,
}

impl AnalyzeClients {
    /// Returns the clients that the configuration names.
    ///
    /// # Errors
    /// When the catalogue of models is invalid, or no HTTP client can be made.
    pub fn new(Init { config, aws, secrets }: Init<AnalyzeConfig>) -> Result<Self, Error> {
        let endpoints = Endpoints {
            openai: Endpoint::new(config.openai_base_url),
            openai_api: config.openai_api,
            anthropic: Endpoint::new(config.anthropic_base_url),
        };
        let catalogue = match config.model_catalogue {
            Some(text) => Catalogue::parse(&text).map_err(|error| format!("environment variable MODEL_CATALOGUE is malformed: {error}"))?,
            None => Catalogue::builtin(),
        };
        let secrets = ModelSecrets { openai: secrets.credential("openai"), anthropic: secrets.credential("anthropic") };
        let models = ModelClient::new(oslira_vendors::http_client()?, endpoints, secrets, catalogue);
        Ok(Self { models, profiles: Profiles::new(&aws, config.profile_bucket) })
    }
}

/// Asks the models all questions of the tier that are still open, at the same time, and records each answer with the run as it arrives. So a
/// retry asks only what is open, and an answered question is never paid twice.
///
/// A question that fails does not end the others: their answers are recorded before the error is returned. When the failure is terminal, the
/// requests in progress are waited for, because they cost money that has to be recorded, but no question gets another attempt. When the run is
/// cancelled, they are aborted: the user waits for none of them.
///
/// # Errors
/// Terminal with `AI_REFUSED`, `AI_INVALID_OUTPUT` or `AI_FAILED`, or for a run that has ended; [`TaskError::Model`] when no provider answered a
/// question.
pub async fn analyze(task: Event<Value>, deps: Deps, clients: AnalyzeClients) -> Result<StepsEnded, TaskError> {
    let AnalyzeInput { run, profile } = input(task.payload)?;
    let started = Timestamp::now();
    let (state, cached, ()) =
        tokio::join!(deps.db.begin_analysis(&run.run_id), clients.profiles.get(&profile.at), clients.models.prepare());
    let state = state?;
    ensure_active(state.as_ref().map(|state| (state.status, state.error_code)))?;
    let state = state.ok_or_else(|| TaskError::Defect("the run was never admitted".to_owned()))?;
    let is_open = |call: &&Call| !state.answered.iter().any(|answered| answered == call.as_str());
    let open: Vec<Call> = run.tier.calls().iter().filter(is_open).copied().collect();
    if !open.is_empty() {
        let entry = cached?.ok_or_else(|| TaskError::Defect("the profile is no longer in the cache".to_owned()))?;
        let questions = Questions::new(&deps, &clients.models, &run, task.deadline);
        let asked = open.into_iter().map(|call| questions.ask(question(&run, call, &state, &entry.profile)));
        decisive(questions.until_ended(join_all(asked)).await)?;
    }
    // The step began with the first question that has an answer, possibly in an earlier attempt.
    let first = state.first_asked_at_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let start = first.map_or(started, |first| first.min(started));
    Ok(StepsEnded { steps: vec![between(Step::AnalyzeProfile, start, Timestamp::now())] })
}

/// Returns the error that decides what becomes of the state: a terminal one, or else one whose retries are few because they cost money.
fn decisive(results: Vec<Result<(), TaskError>>) -> Result<(), TaskError> {
    let rank = |error: &TaskError| match error {
        error if error.is_terminal() => 0,
        TaskError::Model => 1,
        _ => 2,
    };
    results.into_iter().filter_map(Result::err).min_by_key(rank).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use oslira_db::DbError;
    use oslira_domain::FailureCode;

    use super::*;

    #[test]
    fn a_terminal_error_decides_before_one_that_costs_money_and_that_before_a_free_one() {
        let database = || Err(TaskError::Database(DbError::Unauthorized));
        let model = || Err(TaskError::Model);
        let refused = || Err(TaskError::Terminal(FailureCode::AiRefused));
        assert!(decisive(vec![Ok(()), Ok(())]).is_ok());
        assert!(matches!(decisive(vec![Ok(()), database()]), Err(TaskError::Database(_))));
        assert!(matches!(decisive(vec![database(), model(), Ok(())]), Err(TaskError::Model)));
        assert!(matches!(decisive(vec![database(), model(), refused()]), Err(TaskError::Terminal(FailureCode::AiRefused))));
    }
}
