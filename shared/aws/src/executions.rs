//! Step Functions: one execution for each run, named after it.

use aws_config::SdkConfig;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::operation::start_execution::StartExecutionError;
use aws_sdk_sfn::operation::stop_execution::StopExecutionError;
use oslira_domain::{ExecutionInput, RunId};

use crate::AwsError;
use crate::config::{Lazy, lazily, make};
use crate::error::describe;

/// The analysis state machine.
#[derive(Clone)]
pub struct Executions {
    client: Lazy<Client>,
    state_machine_arn: String,
}

impl Executions {
    /// Returns the state machine with this ARN.
    pub fn new(config: &SdkConfig, state_machine_arn: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), state_machine_arn: state_machine_arn.into() }
    }

    /// Makes the client, before an execution has to be started.
    pub fn warm_up(&self) {
        make(&self.client);
    }

    /// Starts the run's execution. A second start of the same run changes nothing.
    ///
    /// # Errors
    /// Fails when the execution may not have been started.
    pub async fn start(&self, input: &ExecutionInput) -> Result<(), AwsError> {
        let text = serde_json::to_string(input).map_err(|error| AwsError::new("states", error.to_string()))?;
        let name = input.run.run_id.as_str();
        let started = self.client.start_execution().state_machine_arn(&self.state_machine_arn).name(name).input(text).send().await;
        match started {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.as_service_error(), Some(StartExecutionError::ExecutionAlreadyExists(_))) => Ok(()),
            Err(error) => Err(describe!("states", error, aws_sdk_sfn)),
        }
    }

    /// Stops the run's execution. One that has ended, or that never existed, counts as stopped.
    ///
    /// # Errors
    /// Fails when the execution may still be running.
    pub async fn stop(&self, run_id: &RunId) -> Result<(), AwsError> {
        let arn = format!("{}:{run_id}", self.state_machine_arn.replace(":stateMachine:", ":execution:"));
        match self.client.stop_execution().execution_arn(arn).error("Terminal").cause("the run ended first").send().await {
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

    /// Checks that the state machine can be described.
    ///
    /// # Errors
    /// Fails when it cannot.
    pub async fn ping(&self) -> Result<(), AwsError> {
        let described = self.client.describe_state_machine().state_machine_arn(&self.state_machine_arn).send().await;
        described.map(drop).map_err(|error| describe!("states", error, aws_sdk_sfn))
    }
}
