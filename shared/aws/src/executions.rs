//! Step Functions: one execution a run, named after it.

use aws_config::SdkConfig;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_sfn::operation::stop_execution::StopExecutionError;
use oslira_domain::{Run, RunId, StepTiming};
use serde::Serialize;

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// The analysis state machine.
#[derive(Clone)]
pub struct Executions {
    client: Lazy<Client>,
    state_machine_arn: String,
}

#[derive(Serialize)]
struct Input<'a> {
    run: &'a Run,
    steps: &'a [StepTiming],
}

impl Executions {
    /// Returns the state machine with this ARN.
    pub fn new(config: &SdkConfig, state_machine_arn: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), state_machine_arn: state_machine_arn.into() }
    }

    /// Starts the run's execution. A second start of the same run changes nothing. `steps` are those that happened before.
    ///
    /// # Errors
    /// When it may not have been started.
    pub async fn start(&self, run: &Run, steps: &[StepTiming]) -> Result<(), AwsError> {
        let input = serde_json::to_string(&Input { run, steps }).map_err(|error| AwsError::new("states", error.to_string()))?;
        let started =
            self.client.start_execution().state_machine_arn(&self.state_machine_arn).name(run.run_id.as_str()).input(input).send().await;
        match started {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.as_service_error(), Some(StartExecutionError::ExecutionAlreadyExists(_))) => Ok(()),
            Err(error) => Err(describe!("states", error, aws_sdk_sfn)),
        }
    }

    /// Stops the run's execution. One that has ended, or never was, counts as stopped.
    ///
    /// # Errors
    /// When it may still be running.
    pub async fn stop(&self, run_id: &RunId) -> Result<(), AwsError> {
        let arn = format!("{}:{run_id}", self.state_machine_arn.replace(":stateMachine:", ":execution:"));
        match self.client.stop_execution().execution_arn(arn).error("RunEnded").cause("its run was ended first").send().await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.as_service_error(),
                    Some(StopExecutionError::ExecutionDoesNotExist(_) | StopExecutionError::ValidationException(_))
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(describe!("states", error, aws_sdk_sfn)),
        }
    }

    /// Whether the state machine answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), AwsError> {
        let answer = self.client.describe_state_machine().state_machine_arn(&self.state_machine_arn).send().await;
        answer.map(drop).map_err(|error| describe!("states", error, aws_sdk_sfn))
    }
}
