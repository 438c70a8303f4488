//! A run's progress in DynamoDB, which clients poll. PostgreSQL stays authoritative: this is a fast, short-lived copy.
//!
//! Writes only move forward: a late or repeated task cannot lower the percentage, and a terminal status is final.

use std::collections::{BTreeMap, HashMap};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use oslira_domain::step::ai_percent;
use oslira_domain::{ExecutionInput, FailureCode, Run, RunId, RunStatus, Step, StepTiming};

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// How long the item of a live run is kept, in seconds: longer than an execution may take, shorter than a day of leftovers.
const LIVE_SECONDS: i64 = 6 * 3600;
/// How long the item of an ended run is kept, in seconds. After that, clients are served from PostgreSQL.
const ENDED_SECONDS: i64 = 3600;

/// The progress of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The run.
    pub run: Run,
    /// Its status.
    pub status: RunStatus,
    /// 0 to 100.
    pub percent: u8,
    /// The current step, or the last one.
    pub step: Step,
    /// The steps that ended, in order.
    pub steps: Vec<StepTiming>,
    /// When the item last changed.
    pub updated_at: Timestamp,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
}

/// The table of progress items.
#[derive(Clone)]
pub struct ProgressTable {
    client: Lazy<Client>,
    table: String,
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: impl Into<i64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

fn json<T: serde::Serialize>(value: &T) -> Result<AttributeValue, AwsError> {
    serde_json::to_string(value).map(AttributeValue::S).map_err(|error| AwsError::new("dynamodb", error.to_string()))
}

/// One update, built by its callers: `SET` parts, an `ADD` part, and their values.
#[derive(Default)]
struct Update {
    set: Vec<String>,
    add: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Update {
    fn set(&mut self, field: &str, value: AttributeValue) {
        let (name, placeholder) = (format!("#{field}"), format!(":{field}"));
        self.set.push(format!("{name} = {placeholder}"));
        self.names.insert(name, field.to_owned());
        self.values.insert(placeholder, value);
    }

    /// Sets one field for each step, so that a repeated write of a step changes nothing else.
    fn timings(&mut self, steps: &[StepTiming]) -> Result<(), AwsError> {
        steps.iter().try_for_each(|timing| {
            self.set(&format!("step_{}", timing.step.as_str()), json(timing)?);
            Ok(())
        })
    }
}

impl ProgressTable {
    /// Returns the progress in `table`.
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), table: table.into() }
    }

    /// Opens the connection to DynamoDB, with an update that changes nothing. It serves all tables.
    pub async fn warm_up(&self) {
        let update = self.client.update_item().table_name(&self.table).key("run_id", text("warm-up"));
        let _ = update.condition_expression("attribute_exists(run_id)").send().await;
    }

    /// Creates the item of an accepted run, at 0 %. Changes nothing if the item exists.
    ///
    /// # Errors
    /// Fails when DynamoDB is unavailable.
    pub async fn create(&self, input: &ExecutionInput, now: Timestamp) -> Result<(), AwsError> {
        let ExecutionInput { run, steps } = input;
        let mut update = Update::default();
        update.set("run", json(run)?);
        update.set("account_id", text(run.account_id.to_string()));
        update.set("status", text(RunStatus::Pending.as_str()));
        update.set("percent", number(0));
        update.set("step", text(Step::GenerateRunId.as_str()));
        update.timings(steps)?;
        self.send(&run.run_id, update, now, LIVE_SECONDS, "attribute_not_exists(run_id)").await
    }

    /// Moves a run to the beginning of `step` and records the steps that ended. Ignored if the run is further or has ended.
    ///
    /// # Errors
    /// Fails when DynamoDB is unavailable.
    pub async fn advance(&self, run: &Run, step: Step, ended: &[StepTiming], now: Timestamp) -> Result<(), AwsError> {
        let mut update = Update::default();
        update.set("run", json(run)?);
        update.set("account_id", text(run.account_id.to_string()));
        update.set("status", text(RunStatus::Processing.as_str()));
        update.set("percent", number(step.percent()));
        update.set("step", text(step.as_str()));
        update.timings(ended)?;
        let forward = "(attribute_not_exists(run_id) OR (#percent < :percent AND #status IN (:pending, :processing)))";
        update.values.insert(":pending".to_owned(), text(RunStatus::Pending.as_str()));
        update.values.insert(":processing".to_owned(), text(RunStatus::Processing.as_str()));
        self.send(&run.run_id, update, now, LIVE_SECONDS, forward).await
    }

    /// Records that a question of the run was answered.
    ///
    /// # Errors
    /// Fails when DynamoDB is unavailable.
    pub async fn call_answered(&self, run_id: &RunId, call: &str, now: Timestamp) -> Result<(), AwsError> {
        let mut update = Update { add: Some("ADD calls_answered :call".to_owned()), ..Update::default() };
        update.values.insert(":call".to_owned(), AttributeValue::Ss(vec![call.to_owned()]));
        update.values.insert(":processing".to_owned(), text(RunStatus::Processing.as_str()));
        update.names.insert("#status".to_owned(), "status".to_owned());
        self.send(run_id, update, now, LIVE_SECONDS, "#status = :processing").await
    }

    /// Records how the run ended. Final: a second end is ignored.
    ///
    /// # Errors
    /// Fails when DynamoDB is unavailable.
    pub async fn end(
        &self,
        run_id: &RunId,
        status: RunStatus,
        code: Option<FailureCode>,
        steps: &[StepTiming],
        now: Timestamp,
    ) -> Result<(), AwsError> {
        let mut update = Update::default();
        update.set("status", text(status.as_str()));
        if let Some(code) = code {
            update.set("error_code", text(code.as_str()));
        }
        if status == RunStatus::Completed {
            update.set("percent", number(Step::Complete.percent()));
            update.set("step", text(Step::Complete.as_str()));
        }
        update.timings(steps)?;
        update.values.insert(":pending".to_owned(), text(RunStatus::Pending.as_str()));
        update.values.insert(":processing".to_owned(), text(RunStatus::Processing.as_str()));
        self.send(run_id, update, now, ENDED_SECONDS, "attribute_exists(run_id) AND #status IN (:pending, :processing)").await
    }

    async fn send(&self, run_id: &RunId, mut update: Update, now: Timestamp, lifetime: i64, condition: &str) -> Result<(), AwsError> {
        update.set("updated_at_ms", number(now.as_millisecond()));
        update.set("expires_at", number(now.as_second() + lifetime));
        let expression = format!("SET {} {}", update.set.join(", "), update.add.unwrap_or_default());
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("run_id", text(run_id.as_str()))
            .update_expression(expression.trim_end())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(update.names))
            .set_expression_attribute_values(Some(update.values))
            .send()
            .await;
        match sent {
            Err(error) if !matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => {
                Err(describe!("dynamodb", error, aws_sdk_dynamodb))
            }
            _ => Ok(()),
        }
    }

    /// Returns the progress of a run. `None` if it is unknown, or expired but not deleted yet.
    ///
    /// # Errors
    /// Fails when DynamoDB is unavailable.
    pub async fn get(&self, run_id: &RunId, now: Timestamp) -> Result<Option<Progress>, AwsError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("run_id", text(run_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| describe!("dynamodb", error, aws_sdk_dynamodb))?;
        let Some(item) = found.item else { return Ok(None) };
        if integer(&item, "expires_at").is_none_or(|end| end <= now.as_second()) {
            return Ok(None);
        }
        parse(&item).map(Some).ok_or_else(|| AwsError::new("dynamodb", "malformed progress item"))
    }

    /// Checks that the table can be described.
    ///
    /// # Errors
    /// Fails when it cannot.
    pub async fn ping(&self) -> Result<(), AwsError> {
        let described = self.client.describe_table().table_name(&self.table).send().await;
        described.map(drop).map_err(|error| describe!("dynamodb", error, aws_sdk_dynamodb))
    }
}

fn string<'a>(item: &'a HashMap<String, AttributeValue>, field: &str) -> Option<&'a str> {
    item.get(field)?.as_s().ok().map(String::as_str)
}

fn integer(item: &HashMap<String, AttributeValue>, field: &str) -> Option<i64> {
    item.get(field)?.as_n().ok()?.parse().ok()
}

fn parse(item: &HashMap<String, AttributeValue>) -> Option<Progress> {
    let run: Run = serde_json::from_str(string(item, "run")?).ok()?;
    let step = string(item, "step")?.parse().ok()?;
    let timings: BTreeMap<u8, StepTiming> = Step::ALL
        .into_iter()
        .filter_map(|step| {
            serde_json::from_str(string(item, &format!("step_{}", step.as_str()))?).ok().map(|timing| (step.number(), timing))
        })
        .collect();
    let answered = item.get("calls_answered").and_then(|set| set.as_ss().ok()).map_or(0, Vec::len);
    let percent = u8::try_from(integer(item, "percent")?).ok()?;
    Some(Progress {
        status: string(item, "status")?.parse().ok()?,
        percent: if step == Step::AnalyzeProfile { ai_percent(answered, run.tier.calls().len()) } else { percent },
        step,
        steps: timings.into_values().collect(),
        updated_at: Timestamp::from_millisecond(integer(item, "updated_at_ms")?).ok()?,
        error_code: string(item, "error_code").and_then(|code| code.parse().ok()),
        run,
    })
}
