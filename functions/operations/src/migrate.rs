//! Migrations of the schema, and the passwords of the backend's logins.
//!
//! CloudFormation invokes it as the resource `Schema`, on which every other function depends: new code runs only once its migrations are
//! applied, and a migration that fails makes the deployment fail, with the old code still in place. An operator invokes it with `{}` to the
//! same effect: after a login's password was changed in its secret, or against another database.

use std::time::{Duration, Instant};

use oslira_aws::secrets::Secrets;
use oslira_credential::Credential;
use oslira_db::{DatabaseLogin, DbError};
use oslira_lambda::{Error, Event, Init};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The logins whose passwords this function sets, and the secrets that hold them.
const LOGINS: [(&str, &str); 2] = [("oslira_user", "database"), ("oslira_admin", "database-admin")];
/// How long a transient failure is retried: missing rights of a role that was created a moment ago, a database that is starting.
const RETRY_TIME: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
/// What is left of the invocation's time for the response.
const RESPONSE_TIME: Duration = Duration::from_secs(15);
/// CloudFormation shows no more of a reason than this.
const MAX_REASON_CHARS: usize = 1000;

/// The dependencies of the function.
pub struct Migrator {
    secrets: Secrets,
    http: reqwest::Client,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The last migration that is applied.
    schema: String,
    /// The migrations that were applied now.
    applied: Vec<String>,
    /// The logins that refused the password of their secret and got it set.
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
    /// Returns the dependencies of the function.
    pub fn new(Init { secrets, .. }: Init<()>) -> Self {
        Self { secrets, http: oslira_tls::http_client() }
    }

    /// Applies the missing migrations, and retries while that may help.
    async fn apply(&self, limit: Duration) -> Result<Report, DbError> {
        let retry_until = Instant::now() + RETRY_TIME.min(limit);
        // Made for each invocation, so that none of them uses a password that was cached before it changed.
        let owner = self.secrets.credential("database-owner");
        let logins = LOGINS.map(|(role, secret)| (role, self.secrets.credential(secret)));
        loop {
            match Box::pin(attempt(&owner, &logins, limit)).await {
                Err(error) if error.is_retryable() && Instant::now() < retry_until => {
                    tracing::warn!(%error, "migration failed, retrying");
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Brings the schema up to date within the time that the invocation has left.
    async fn run(&self, left: Duration) -> Result<Report, DbError> {
        let limit = left.saturating_sub(RESPONSE_TIME);
        let outcome = match tokio::time::timeout(limit, self.apply(limit)).await {
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

    /// Processes CloudFormation's request and reports the outcome to it, success or failure: it waits up to an hour for a response.
    async fn deploy(&self, deployment: &Deployment, left: Duration) -> Result<Value, Error> {
        // A stack that is deleted leaves its data behind.
        let outcome = if deployment.request_type == "Delete" { Ok(json!({})) } else { self.run(left).await.map(|report| json!(report)) };
        let response = response(deployment, &outcome);
        let mut retries = 0;
        loop {
            // Without a content type, because the address is signed for a request that has none.
            let sent = self.http.put(&deployment.response_url).body(response.to_string()).timeout(Duration::from_secs(4)).send().await;
            match sent.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return Ok(response),
                Err(error) if retries == 2 => return Err(error.without_url().into()),
                Err(_) => retries += 1,
            }
        }
    }
}

/// Applies the missing migrations and sets the passwords of the logins that refuse theirs.
async fn attempt(
    owner: &Credential<DatabaseLogin>,
    logins: &[(&'static str, Credential<DatabaseLogin>)],
    limit: Duration,
) -> Result<Report, DbError> {
    let schema = oslira_db::migrate(owner, limit).await?;
    let mut passwords_set = Vec::new();
    for (role, credential) in logins {
        let login = credential.current().await?;
        if oslira_db::give_password(owner, role, &login).await? {
            passwords_set.push(*role);
        }
    }
    Ok(Report { schema: schema.version, applied: schema.applied, passwords_set })
}

/// Returns what CloudFormation expects of a custom resource.
fn response(deployment: &Deployment, outcome: &Result<Value, DbError>) -> Value {
    let mut response = json!({
        "Status": "SUCCESS",
        // Always the same: after another one CloudFormation would delete the old resource.
        "PhysicalResourceId": "schema",
        "StackId": deployment.stack_id,
        "RequestId": deployment.request_id,
        "LogicalResourceId": deployment.logical_resource_id,
    });
    match outcome {
        Ok(report) => response["Data"] = json!({ "Schema": report["schema"] }),
        Err(error) => {
            response["Status"] = json!("FAILED");
            response["Reason"] =
                json!(format!("the schema could not be brought up to date: {error}").chars().take(MAX_REASON_CHARS).collect::<String>());
        }
    }
    response
}

/// Brings the schema up to date: for CloudFormation, which receives the outcome at the address in its request, or for an operator.
///
/// # Errors
/// When the schema is not up to date, or CloudFormation cannot be reached.
pub async fn migrate(event: Event<Value>, migrator: &Migrator) -> Result<Value, Error> {
    let left = event.deadline.saturating_duration_since(Instant::now());
    if event.payload.get("ResponseURL").is_some() {
        return migrator.deploy(&serde_json::from_value(event.payload)?, left).await;
    }
    Ok(serde_json::to_value(migrator.run(left).await?)?)
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
    fn a_failure_has_its_reason_and_keeps_the_resource() {
        let long = Err(DbError::Unexpected("x".repeat(5000)));
        let sent = response(&deployment(), &long);
        assert_eq!((&sent["Status"], &sent["PhysicalResourceId"]), (&json!("FAILED"), &json!("schema")));
        assert_eq!(sent["Reason"].as_str().unwrap().len(), MAX_REASON_CHARS);
        let sent = response(&deployment(), &Ok(json!({ "schema": "V007__bulk" })));
        assert_eq!(
            sent,
            json!({
                "Status": "SUCCESS", "PhysicalResourceId": "schema", "StackId": "arn:stack", "RequestId": "r",
                "LogicalResourceId": "Schema", "Data": { "Schema": "V007__bulk" },
            })
        );
    }
}
