//! Metrics in CloudWatch's embedded metric format: one JSON object a line on standard output, from which CloudWatch extracts them.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Number, Value, json};

use crate::settings;

/// The one namespace of all metrics.
const NAMESPACE: &str = "Oslira";

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// A unit that CloudWatch does not have, such as credits or micro-USD.
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

/// One observation: metrics that belong together, with the dimensions by which CloudWatch aggregates them.
///
/// Every combination of dimensions is a metric of its own that costs money. Therefore a field with many values (an account, a run) is a
/// property, which can only be searched for in the logs. Every observation has the dimension `environment`, so that staging and production
/// may share an AWS account.
#[derive(Debug, Clone, Default)]
#[must_use = "an observation is published with `emit`"]
pub struct Metrics {
    at_ms: Option<u64>,
    with_total: bool,
    dimensions: Vec<&'static str>,
    declared: Vec<Value>,
    fields: Map<String, Value>,
}

impl Metrics {
    /// Returns an empty observation of `dataset`, the property under which all observations of one kind are found in the logs.
    pub fn of(dataset: &'static str) -> Self {
        let metrics = Self::default().property("dataset", dataset);
        match settings() {
            Some(settings) => metrics.dimension("environment", settings.environment.clone()),
            None => metrics,
        }
    }

    /// Sets when it happened, in milliseconds since 1970, if that is not now. CloudWatch accepts at most two weeks.
    pub fn at(self, at_ms: u64) -> Self {
        Self { at_ms: Some(at_ms), ..self }
    }

    /// Counts also under its first dimension alone: for an alarm on the total, which CloudWatch cannot compute from the parts.
    pub fn with_total(self) -> Self {
        Self { with_total: true, ..self }
    }

    /// Adds a dimension of all metrics of this observation. CloudWatch allows at most 30.
    pub fn dimension(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.dimensions.push(name);
        self.fields.insert(name.to_owned(), Value::String(value.into()));
        self
    }

    /// Adds a metric. CloudWatch allows at most 100.
    pub fn metric(mut self, name: &'static str, unit: Unit, value: impl Into<Number>) -> Self {
        self.declared.push(json!({ "Name": name, "Unit": unit.as_str() }));
        self.fields.insert(name.to_owned(), Value::Number(value.into()));
        self
    }

    /// Adds a field to search for that is no dimension.
    pub fn property(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the observation to standard output.
    pub fn emit(self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{}\n", self.line(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)));
        // In one write, so that no other line interrupts it. Without an output there is nowhere to report an error of this write.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    fn line(self, now_ms: u64) -> Value {
        let mut sets = vec![self.dimensions.clone()];
        if self.with_total && self.dimensions.len() > 1 {
            sets.push(vec![self.dimensions[0]]);
        }
        let directive = json!({ "Namespace": NAMESPACE, "Dimensions": sets, "Metrics": self.declared });
        let at_ms = self.at_ms.unwrap_or(now_ms);
        let mut line = Map::from_iter([("_aws".to_owned(), json!({ "Timestamp": at_ms, "CloudWatchMetrics": [directive] }))]);
        line.extend(self.fields);
        Value::Object(line)
    }
}

/// Counts an error on our side (a 5xx, a defect, a message that no retry can process) under `code`, with `properties` that say what it
/// happened to.
pub fn count_error(code: &str, properties: &[(&'static str, &str)]) {
    let function = settings().and_then(|settings| settings.function.clone()).unwrap_or_else(|| "unknown".to_owned());
    let metrics =
        Metrics::of("errors").dimension("function", function).dimension("code", code).metric("errors", Unit::Count, 1).with_total();
    properties.iter().fold(metrics, |metrics, (name, value)| metrics.property(name, *value)).emit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_one_line_in_the_embedded_metric_format() {
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
        let line = Metrics::of("errors").dimension("environment", "test").dimension("function", "f").with_total().at(7).line(8);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["environment", "function"], ["environment"]]));
        assert_eq!(line["_aws"]["Timestamp"], 7);
        assert_eq!(Unit::Count.as_str(), "Count");
    }
}
