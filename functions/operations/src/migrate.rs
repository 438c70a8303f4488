//! The schema and the backend's logins, brought to what this version needs.
//!
//! CloudFormation invokes it as the resource `Schema`, on which every other function depends: new code runs only once its migrations are
//! applied, and one that fails fails the deployment, with the old code still in place. By hand, with `{}`, it does the same: after a login's
//! password was changed in its secret, or against another database.

use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::{LambdaEvent, service_fn};
use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, sdk_config};
use oslira_db::{Credential, CredentialSource, DbError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::Instrument;

/// The logins that this function gives their passwords, and the secrets that hold them.
const LOGINS: [(&str, &str); 2] = [("oslira_user", "database"), ("oslira_admin", "database-admin")];
/// How long what passes by itself is waited for: the rights of a role that was made a moment ago, a database that is starting.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
/// What is left of the invocation's time for the answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// CloudFormation shows no more of a reason than this.
const REASON_CHARS: usize = 1000;

/// What it works with.
pub struct Migrator {
    secrets: Secrets,
    owner: CredentialSource,
    http: reqwest::Client,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The last migration that is applied.
    schema: String,
    /// The migrations that were applied now.
    applied: Vec<String>,
    /// The logins that were given the password of their secret, because they refused it.
    passwords_set: Vec<&'static str>,
}

/// CloudFormation's request to a custom resource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deployment {
    request_type: String,
    #[serde(rename = "ResponseURL")]
    response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
}

impl Migrator {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let secrets = Secrets::from_env(&sdk_config())?;
        let owner = secrets.fetcher("database-owner", DbError::no_credential);
        Ok(Self { secrets, owner, http: oslira_tls::http_client() })
    }

    /// Applies what is missing, again while that may help.
    async fn migrate(&self, limit: Duration) -> Result<Report, DbError> {
        let patience = Instant::now() + PATIENCE.min(limit);
        loop {
            match Box::pin(self.attempt(limit)).await {
                Err(error) if error.is_retryable() && Instant::now() < patience => {
                    tracing::warn!(%error, "trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self, limit: Duration) -> Result<Report, DbError> {
        let schema = oslira_db::migrate(self.owner.clone(), limit).await?;
        let mut passwords_set = Vec::new();
        for (login, secret) in LOGINS {
            let credential: Credential = self.secrets.get(secret, false).await.map_err(DbError::no_credential)?;
            if oslira_db::give_password(&self.owner, login, &credential).await? {
                passwords_set.push(login);
            }
        }
        Ok(Report { schema: schema.version, applied: schema.applied, passwords_set })
    }

    /// Does it within the time that the invocation has.
    async fn run(&self, left: Duration) -> Result<Report, DbError> {
        self.secrets.forget().await;
        let limit = left.saturating_sub(ANSWER_TIME);
        let outcome = match tokio::time::timeout(limit, self.migrate(limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DbError::Unavailable(format!("not done within {} s", limit.as_secs()))),
        };
        match &outcome {
            Ok(report) => {
                tracing::info!(
                    schema = report.schema,
                    applied = report.applied.len(),
                    passwords_set = report.passwords_set.len(),
                    "schema is up to date"
                );
            }
            Err(error) => tracing::error!(%error, "schema is not up to date"),
        }
        outcome
    }

    /// Does what CloudFormation asks for and tells it the outcome, good or bad: it would wait for an answer for up to an hour.
    async fn deploy(&self, deployment: Deployment, left: Duration) -> Result<Value, lambda_runtime::Error> {
        // A stack that goes leaves its data behind.
        let outcome = if deployment.request_type == "Delete" { Ok(json!({})) } else { self.run(left).await.map(|report| json!(report)) };
        let answer = answer(&deployment, &outcome);
        let mut tries = 0;
        loop {
            // Without a content type: the address is signed for a request that has none.
            let sent = self.http.put(&deployment.response_url).body(answer.to_string()).timeout(Duration::from_secs(4)).send().await;
            match sent.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return Ok(answer),
                Err(error) if tries == 2 => return Err(error.without_url().into()),
                Err(_) => tries += 1,
            }
        }
    }
}

fn answer(deployment: &Deployment, outcome: &Result<Value, DbError>) -> Value {
    let mut answer = json!({
        "Status": "SUCCESS",
        // Always the same: another one would tell CloudFormation that the old schema is to be deleted.
        "PhysicalResourceId": "schema",
        "StackId": deployment.stack_id,
        "RequestId": deployment.request_id,
        "LogicalResourceId": deployment.logical_resource_id,
    });
    match outcome {
        Ok(report) => answer["Data"] = json!({ "Schema": report["schema"] }),
        Err(error) => {
            answer["Status"] = json!("FAILED");
            answer["Reason"] =
                json!(format!("the schema could not be brought up to date: {error}").chars().take(REASON_CHARS).collect::<String>());
        }
    }
    answer
}

/// Answers invocations until the environment ends.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn serve(migrator: Migrator) -> Result<(), lambda_runtime::Error> {
    let migrator = &migrator;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let span = tracing::info_span!("migrate", requestId = event.context.request_id, xray_trace_id = event.context.xray_trace_id);
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            if event.payload.get("ResponseURL").is_some() {
                return migrator.deploy(serde_json::from_value(event.payload)?, left).await;
            }
            let report = migrator.run(left).await.map_err(lambda_runtime::Error::from)?;
            Ok::<Value, lambda_runtime::Error>(serde_json::to_value(report)?)
        }
        .instrument(span)
    }))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "RequestType": "Update",
            "ResponseURL": "https://cloudformation-custom-resource-response-euwest1.s3.amazonaws.com/x",
            "StackId": "arn:stack",
            "RequestId": "r",
            "ResourceType": "Custom::Schema",
            "LogicalResourceId": "Schema",
            "PhysicalResourceId": "schema",
            "ResourceProperties": { "ServiceToken": "arn:function", "Version": "V007__bulk" },
        }))
        .unwrap()
    }

    #[test]
    fn a_failure_is_told_with_its_reason_and_stays_the_same_resource() {
        let long = Err(DbError::Unexpected("x".repeat(5000)));
        let told = answer(&deployment(), &long);
        assert_eq!((&told["Status"], &told["PhysicalResourceId"]), (&json!("FAILED"), &json!("schema")));
        assert_eq!(told["Reason"].as_str().unwrap().len(), REASON_CHARS);
        let told = answer(&deployment(), &Ok(json!({ "schema": "V007__bulk" })));
        assert_eq!(
            told,
            json!({
                "Status": "SUCCESS", "PhysicalResourceId": "schema", "StackId": "arn:stack", "RequestId": "r",
                "LogicalResourceId": "Schema", "Data": { "Schema": "V007__bulk" },
            })
        );
    }
}
