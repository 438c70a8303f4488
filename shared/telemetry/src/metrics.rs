//! Metrics, as CloudWatch takes them out of log lines: its embedded metric format, one JSON object a line on standard output.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Number, Value, json};

/// The one namespace of all metrics.
const NAMESPACE: &str = "Oslira";

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Anything that CloudWatch has no word for, such as credits or micro-USD.
    None,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
            Self::None => "None",
        }
    }
}

/// One observation: numbers that belong together, with the dimensions that they are summed up by. Every combination of dimensions is a
/// metric of its own that costs money: what has many values (an account, a run) is a property, which is only searched for in the logs.
///
/// All have the dimension `environment`, so that staging and production may share an AWS account.
#[derive(Debug, Clone, Default)]
#[must_use = "an observation is told with `emit`"]
pub struct Metrics {
    at_ms: Option<u64>,
    summed_up: bool,
    dimensions: Vec<&'static str>,
    declared: Vec<Value>,
    fields: Map<String, Value>,
}

impl Metrics {
    /// Nothing yet, of the data set `dataset`: what all observations of one kind are found under in the logs.
    pub fn of(dataset: &'static str) -> Self {
        let metrics = Self::default().property("dataset", dataset);
        match std::env::var("ENVIRONMENT") {
            Ok(environment) => metrics.dimension("environment", environment),
            Err(_) => metrics,
        }
    }

    /// When it was, in milliseconds since 1970, if not now. CloudWatch takes what is at most two weeks old.
    pub fn at(self, at_ms: u64) -> Self {
        Self { at_ms: Some(at_ms), ..self }
    }

    /// Counts also under its first dimension alone: for an alarm on the sum, which CloudWatch cannot build from the parts.
    pub fn summed_up(self) -> Self {
        Self { summed_up: true, ..self }
    }

    /// Adds a dimension that all numbers of this observation have. At most 30, as CloudWatch allows.
    pub fn dimension(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.dimensions.push(name);
        self.fields.insert(name.to_owned(), Value::String(value.into()));
        self
    }

    /// Adds a number. At most 100, as CloudWatch allows.
    pub fn metric(mut self, name: &'static str, unit: Unit, value: impl Into<Number>) -> Self {
        self.declared.push(json!({ "Name": name, "Unit": unit.as_str() }));
        self.fields.insert(name.to_owned(), Value::Number(value.into()));
        self
    }

    /// Adds something to search for that is no dimension.
    pub fn property(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the observation to standard output.
    pub fn emit(self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{}\n", self.line(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)));
        // In one piece, so that no other line gets in between. A function whose output is gone has other worries.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    fn line(self, now_ms: u64) -> Value {
        let mut sets = vec![self.dimensions.clone()];
        if self.summed_up && self.dimensions.len() > 1 {
            sets.push(vec![self.dimensions[0]]);
        }
        let directive = json!({ "Namespace": NAMESPACE, "Dimensions": sets, "Metrics": self.declared });
        let at_ms = self.at_ms.unwrap_or(now_ms);
        let mut line = Map::from_iter([("_aws".to_owned(), json!({ "Timestamp": at_ms, "CloudWatchMetrics": [directive] }))]);
        line.extend(self.fields);
        Value::Object(line)
    }
}

/// Counts an error that is ours (a 5xx, a defect, a message that nobody can deal with) under `code`, with what it happened to.
pub fn count_error(code: &str, properties: &[(&'static str, &str)]) {
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "unknown".to_owned());
    let metrics =
        Metrics::of("errors").dimension("function", function).dimension("code", code).metric("errors", Unit::Count, 1).summed_up();
    properties.iter().fold(metrics, |metrics, (name, value)| metrics.property(name, *value)).emit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_one_line_that_cloudwatch_understands() {
        let metrics = Metrics::of("schedules")
            .dimension("schedule", "clean_up")
            .metric("duration", Unit::Milliseconds, 12_u64)
            .metric("credits", Unit::None, -3)
            .property("dry_run", true);
        let expected = json!({
            "_aws": { "Timestamp": 1_700_000_000_000_u64, "CloudWatchMetrics": [{
                "Namespace": "Oslira",
                "Dimensions": [["schedule"]],
                "Metrics": [{ "Name": "duration", "Unit": "Milliseconds" }, { "Name": "credits", "Unit": "None" }]
            }] },
            "dataset": "schedules", "schedule": "clean_up", "duration": 12, "credits": -3, "dry_run": true
        });
        assert_eq!(metrics.line(1_700_000_000_000), expected);
        let line = Metrics::of("errors").dimension("environment", "test").dimension("function", "f").summed_up().at(7).line(8);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["environment", "function"], ["environment"]]));
        assert_eq!(line["_aws"]["Timestamp"], 7);
        assert_eq!(Unit::Count.as_str(), "Count");
    }
}
