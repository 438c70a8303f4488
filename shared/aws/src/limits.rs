//! Rate limits: fixed windows, with one conditional update for each counted request.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// A limit: how many requests are allowed in each window.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// What is limited. Part of the counter's key.
    pub scope: &'static str,
    /// How many requests are allowed.
    pub count: u32,
    /// The length of a window.
    pub window: Duration,
}

/// Analyses an account may start (a bulk request counts its handles).
pub const ANALYSES: Limit = Limit { scope: "analyses", count: 100, window: Duration::from_hours(1) };
/// Requests of a user to start an analysis, accepted or not.
pub const STARTS: Limit = Limit { scope: "starts", count: 300, window: Duration::from_mins(1) };
/// Bulk requests of an account.
pub const BULK_REQUESTS: Limit = Limit { scope: "bulk_requests", count: 5, window: Duration::from_hours(1) };
/// Checkouts a user may open.
pub const PURCHASES: Limit = Limit { scope: "purchases", count: 30, window: Duration::from_hours(1) };
/// Refresh checks of an account: each one scrapes a profile at our expense.
pub const REFRESH_CHECKS: Limit = Limit { scope: "refresh_checks", count: 10, window: Duration::from_hours(1) };
/// Cache entries that an account may drop: all tenants share the cache, and the next analysis of the handle by any of them scrapes again.
pub const FORCED_REFRESHES: Limit = Limit { scope: "forced_refreshes", count: 10, window: Duration::from_hours(1) };
/// All requests of a user.
pub const GENERAL: Limit = Limit { scope: "general", count: 60, window: Duration::from_mins(1) };
/// Progress requests of a user: a page polls several runs, once or twice a second.
pub const PROGRESS: Limit = Limit { scope: "progress", count: 300, window: Duration::from_mins(1) };

/// The state of a limit after a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    /// Whether this request is within the limit.
    pub allowed: bool,
    /// How many requests are left in this window.
    pub remaining: u32,
    /// Seconds until the next window.
    pub reset_after: u64,
    /// The number of this window since 1970, as part of the counter's key.
    pub window: u64,
}

/// The key of a counter.
fn bucket(limit: Limit, subject: &str, window: u64) -> AttributeValue {
    AttributeValue::S(format!("{}#{subject}#{window}", limit.scope))
}

/// The counters.
#[derive(Clone)]
pub struct Limits {
    client: Lazy<Client>,
    table: String,
}

impl Limits {
    /// Returns the counters in `table`.
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), table: table.into() }
    }

    /// Opens the connection to DynamoDB, with an update that changes nothing. It serves all tables.
    pub async fn warm_up(&self) {
        let update = self.client.update_item().table_name(&self.table).key("bucket", AttributeValue::S("warm-up".to_owned()));
        let _ = update.condition_expression("attribute_exists(used)").send().await;
    }

    /// Counts `weight` requests of `subject`, all or none.
    ///
    /// # Errors
    /// When DynamoDB is not available. Callers then let the request through, because the ledger guards what is spent.
    pub async fn count(&self, limit: Limit, subject: &str, weight: u32, now: Timestamp) -> Result<LimitStatus, AwsError> {
        let length = limit.window.as_secs().max(1);
        let second = u64::try_from(now.as_second()).unwrap_or(0);
        let window = second / length;
        let end = (window + 1) * length;
        let number = |n: u64| AttributeValue::N(n.to_string());
        let Some(max_before) = limit.count.checked_sub(weight) else {
            return Ok(LimitStatus { allowed: false, remaining: 0, reset_after: end - second, window });
        };
        let updated = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("bucket", bucket(limit, subject, window))
            .update_expression("ADD used :weight SET expires_at = :end")
            .condition_expression("attribute_not_exists(used) OR used <= :max")
            .expression_attribute_values(":weight", number(weight.into()))
            .expression_attribute_values(":max", number(max_before.into()))
            .expression_attribute_values(":end", number(end + 60))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew)
            .send()
            .await;
        let reset_after = end - second;
        match updated {
            Ok(output) => {
                let used = output.attributes.and_then(|fields| fields.get("used")?.as_n().ok()?.parse::<u32>().ok()).unwrap_or(weight);
                Ok(LimitStatus { allowed: true, remaining: limit.count.saturating_sub(used), reset_after, window })
            }
            Err(error) if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => {
                Ok(LimitStatus { allowed: false, remaining: 0, reset_after, window })
            }
            Err(error) => Err(describe!("dynamodb", error, aws_sdk_dynamodb)),
        }
    }

    /// Takes `weight` requests of `subject` back that were counted with the state `counted`.
    ///
    /// # Errors
    /// When DynamoDB is not available. The requests stay counted until their window ends.
    pub async fn give_back(&self, limit: Limit, subject: &str, weight: u32, counted: LimitStatus) -> Result<(), AwsError> {
        let update = self.client.update_item().table_name(&self.table).key("bucket", bucket(limit, subject, counted.window));
        let update = update.update_expression("ADD used :weight").condition_expression("used >= :counted");
        let update = update.expression_attribute_values(":weight", AttributeValue::N(format!("-{weight}")));
        let updated = update.expression_attribute_values(":counted", AttributeValue::N(weight.to_string())).send().await;
        updated.map(drop).map_err(|error| describe!("dynamodb", error, aws_sdk_dynamodb))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{AwsConfig, sdk_config};

    #[tokio::test]
    async fn a_silent_connection_takes_one_attempt_and_not_the_whole_operation() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            // The first connection is accepted and stays silent, as one does whose other end is gone.
            let (_silent, _) = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let body = r#"{"Attributes":{"used":{"N":"1"}}}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length";
            stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        });
        let config = AwsConfig { aws_region: Some("eu-west-1".to_owned()), aws_endpoint_url: Some(endpoint) };
        let credentials = aws_credential_types::Credentials::new("id", "key", None, None, "test");
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(credentials);
        let config = sdk_config(&config).into_builder().credentials_provider(provider).build();
        let started = Instant::now();
        let status = Limits::new(&config, "limits").count(GENERAL, "u1", 1, Timestamp::now()).await.unwrap();
        assert!(status.allowed);
        assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&started.elapsed()), "{:?}", started.elapsed());
        server.await.unwrap();
    }
}
