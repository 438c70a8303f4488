//! The hit rate of the profile cache: two counters for each hour of the last day.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// The one series of counters: the table's partition key.
const SERIES: &str = "cache_lookups";
const HOUR: i64 = 3600;
/// How many hours are added up, the current one included.
const HOURS: i64 = 24;

/// The counters.
#[derive(Clone)]
pub struct Lookups {
    client: Lazy<Client>,
    table: String,
}

/// Hits and misses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Analyses that found an entry that is young enough for their tier.
    pub hits: u64,
    /// Analyses that did not.
    pub misses: u64,
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn count(item: &HashMap<String, AttributeValue>, field: &str) -> u64 {
    item.get(field).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default()
}

impl Lookups {
    /// Returns the counters in `table`.
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), table: table.into() }
    }

    /// Counts one lookup.
    ///
    /// # Errors
    /// When DynamoDB is not available. Nothing depends on the counter.
    pub async fn count(&self, hit: bool, now: Timestamp) -> Result<(), AwsError> {
        let hour = now.as_second().div_euclid(HOUR);
        let counted = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("series", AttributeValue::S(SERIES.to_owned()))
            .key("hour", number(hour))
            .update_expression("ADD #counter :one SET expires_at = :end")
            .expression_attribute_names("#counter", if hit { "hits" } else { "misses" })
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":end", number((hour + HOURS + 1) * HOUR))
            .send()
            .await;
        counted.map(drop).map_err(|error| describe!("dynamodb", error, aws_sdk_dynamodb))
    }

    /// Returns the totals of the last day.
    ///
    /// # Errors
    /// When DynamoDB is not available.
    pub async fn last_day(&self, now: Timestamp) -> Result<Counted, AwsError> {
        let first = now.as_second().div_euclid(HOUR) - HOURS + 1;
        let response = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("series = :series AND #hour >= :first")
            .expression_attribute_names("#hour", "hour")
            .expression_attribute_values(":series", AttributeValue::S(SERIES.to_owned()))
            .expression_attribute_values(":first", number(first))
            .send()
            .await
            .map_err(|error| describe!("dynamodb", error, aws_sdk_dynamodb))?;
        let hours = response.items.unwrap_or_default();
        Ok(hours.iter().fold(Counted::default(), |sum, hour| Counted {
            hits: sum.hits + count(hour, "hits"),
            misses: sum.misses + count(hour, "misses"),
        }))
    }
}
