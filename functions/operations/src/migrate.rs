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
    #[serde(default)]
    resource_properties: SchemaProperties,
    /// Those before an update.
    #[serde(default)]
    old_resource_properties: SchemaProperties,
}

/// The properties of the resource `Schema`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SchemaProperties {
    /// The last migration, such as `V010__policies_and_grants`.
    version: Option<String>,
}

impl Deployment {
    /// Whether this version is older than the deployed one: a rollback, or a return to older code. There is nothing to migrate, because
    /// migrations also suit the previous code. So no database is needed either: a rollback whose database is unavailable, perhaps the very
    /// reason for it, would end in `UPDATE_ROLLBACK_FAILED` otherwise.
    fn is_rollback(&self) -> bool {
        let number = |properties: &SchemaProperties| {
            let version = properties.version.as_deref()?;
            version.strip_prefix('V')?.split("__").next()?.parse::<u32>().ok()
        };
        let versions = number(&self.resource_properties).zip(number(&self.old_resource_properties));
        self.request_type == "Update" && versions.is_some_and(|(new, old)| new < old)
    }
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
        let outcome = if deployment.request_type == "Delete" {
            Ok(json!({}))
        } else if deployment.is_rollback() {
            tracing::info!("the schema is newer than this version: nothing to migrate");
            Ok(json!({ "schema": deployment.old_resource_properties.version }))
        } else {
            self.run(left).await.map(|report| json!(report))
        };
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

    /// Returns a deployment from one version to another.
    fn update(request_type: &str, old: Option<&str>, new: Option<&str>) -> Deployment {
        let properties = |version: Option<&str>| SchemaProperties { version: version.map(ToOwned::to_owned) };
        let request_type = request_type.to_owned();
        Deployment { request_type, resource_properties: properties(new), old_resource_properties: properties(old), ..deployment() }
    }

    #[test]
    fn only_an_update_to_an_older_version_is_a_rollback() {
        for (old, new, expected) in [
            (Some("V011__webhooks"), Some("V010__policies_and_grants"), true),
            (Some("V100__late"), Some("V099__early"), true),
            (Some("V1000__late"), Some("V999__early"), true),
            (Some("V010__policies_and_grants"), Some("V011__webhooks"), false),
            (Some("V010__policies_and_grants"), Some("V010__policies"), false),
            (None, Some("V010__policies_and_grants"), false),
            (Some("latest"), Some("V010__policies_and_grants"), false),
        ] {
            assert_eq!(update("Update", old, new).is_rollback(), expected, "{old:?} to {new:?}");
        }
        assert!(!update("Create", Some("V011__a"), Some("V010__b")).is_rollback());
        assert!(!deployment().is_rollback());
    }

    #[tokio::test]
    async fn a_rollback_is_answered_without_the_database_and_a_deployment_is_not() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        // CloudFormation, which receives the outcome. There is neither a database nor a Secrets Manager.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let aws =
            oslira_aws::AwsConfig { aws_region: Some("eu-west-1".to_owned()), aws_endpoint_url: Some("http://127.0.0.1:1".to_owned()) };
        let secrets = Secrets::new(&oslira_aws::sdk_config(&aws), "test");
        let migrator = Migrator { secrets, http: oslira_tls::http_client() };
        for (old, new, expected) in [("V011__a", "V010__b", "SUCCESS"), ("V010__b", "V011__a", "FAILED")] {
            let deployment = Deployment { response_url: format!("http://{address}/"), ..update("Update", Some(old), Some(new)) };
            let receive = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 8192];
                let length = stream.read(&mut request).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            };
            let (response, received) = tokio::join!(migrator.deploy(&deployment, RESPONSE_TIME + Duration::from_secs(1)), receive);
            assert_eq!(response.unwrap()["Status"], expected, "{old} to {new}");
            assert!(received.starts_with("PUT / "), "{received}");
        }
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
