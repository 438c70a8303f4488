//! Injected faults and delays.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::calls::{Vendor, contains};

/// The message of an injected error.
pub(crate) const INJECTED: &str = "The sandbox injected this error.";

/// A kind of failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// Responds with the vendor's error body and this HTTP status.
    Status {
        status: u16,
        #[serde(default)]
        retry_after: Option<u64>,
        /// The vendor's error type, if not the default one of the status.
        #[serde(default)]
        error_type: Option<String>,
        /// The vendor's error code, such as `credit_balance_exhausted`.
        #[serde(default)]
        code: Option<String>,
    },
    /// Sends nothing for this time, then the regular response.
    Hang { seconds: f64 },
    /// Closes the connection without a response.
    Disconnect,
    /// Sends the first half of the regular response.
    TruncatedJson,
    /// The model refuses.
    Refusal,
    /// The output budget ends in the middle of the answer.
    MaxTokens,
    /// The answer is JSON that violates the schema.
    SchemaViolation,
    /// The answer is prose instead of JSON.
    NotJson,
    /// The answer has no text.
    Empty,
    /// OpenAI: a message of commentary precedes the answer.
    Commentary,
    /// OpenAI: status 200 with a response that failed for this reason, without output or usage.
    ResponseFailed { code: String },
    /// The answer is in a code fence, after a byte order mark and some words.
    Fenced,
    /// The response has this id, as a server that draws ids from a few values gives it again.
    ResponseId { id: String },
    /// The Actor run ends as FAILED, with this many items in its dataset.
    RunFailed {
        #[serde(default)]
        items: usize,
    },
    /// The Actor run ends as TIMED-OUT, with this many items in its dataset.
    RunTimedOut {
        #[serde(default)]
        items: usize,
    },
    /// The Actor run ends as ABORTED without a request to abort it.
    RunAborted,
    /// The run succeeds with an empty dataset.
    EmptyDataset,
    /// Instagram blocked the scraper: the items have neither name nor picture.
    Blocked,
    /// Neither the cost of the Actor run nor its charged events are reported until this long after its end.
    CostUnsettled { seconds: f64 },
}

impl Fault {
    /// Returns whether this vendor can fail in this way.
    fn fits(&self, vendor: Vendor) -> bool {
        match self {
            Self::Status { .. } | Self::Hang { .. } | Self::Disconnect | Self::TruncatedJson => true,
            Self::Refusal
            | Self::MaxTokens
            | Self::SchemaViolation
            | Self::NotJson
            | Self::Empty
            | Self::Fenced
            | Self::ResponseId { .. } => matches!(vendor, Vendor::Openai | Vendor::Anthropic),
            Self::Commentary | Self::ResponseFailed { .. } => vendor == Vendor::Openai,
            Self::RunFailed { .. }
            | Self::RunTimedOut { .. }
            | Self::RunAborted
            | Self::EmptyDataset
            | Self::Blocked
            | Self::CostUnsettled { .. } => vendor == Vendor::Apify,
        }
    }

    /// Returns whether the fault concerns a whole run, whose end is decided when it starts.
    fn belongs_to_start(&self) -> bool {
        matches!(
            self,
            Self::RunFailed { .. }
                | Self::RunTimedOut { .. }
                | Self::RunAborted
                | Self::EmptyDataset
                | Self::Blocked
                | Self::CostUnsettled { .. }
        )
    }
}

/// A rule that injects a fault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) vendor: Vendor,
    #[serde(rename = "match")]
    text: Option<String>,
    /// One of the vendor's operations, any if absent. Apify: `start`, `poll`, `items` or `abort`. Stripe: `customers`, `sessions` and so on.
    op: Option<String>,
    fault: Fault,
    /// How many calls fail. Without a number calls fail until the rule is removed.
    times: Option<u64>,
}

/// A rule that sets the duration of calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Latency {
    vendor: Vendor,
    #[serde(rename = "match")]
    text: Option<String>,
    /// The duration of one call, for every vendor but Apify.
    ms: Option<u64>,
    /// Apify: the time from the start of a run to its first profile.
    start_ms: Option<u64>,
    /// Apify: the time of each profile.
    per_profile_ms: Option<u64>,
}

/// The duration of an Actor run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunPace {
    pub(crate) start: Duration,
    pub(crate) per_profile: Duration,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Rules>);

#[derive(Debug, Default)]
struct Rules {
    last_id: u64,
    faults: Vec<(u64, Rule)>,
    latencies: Vec<Latency>,
}

impl Faults {
    fn with<T>(&self, edit: impl FnOnce(&mut Rules) -> T) -> T {
        edit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a rule and returns its id.
    ///
    /// # Errors
    /// The reason when the vendor does not have this fault or operation, or when a number is out of range.
    pub(crate) fn add(&self, rule: Rule, operations: &[&str]) -> Result<u64, String> {
        if !rule.fault.fits(rule.vendor) {
            return Err("this vendor does not have this fault".to_owned());
        }
        if rule.op.as_deref().is_some_and(|op| !operations.contains(&op)) {
            return Err(format!("op is one of this vendor's operations: {}", operations.join(", ")));
        }
        match rule.fault {
            Fault::Status { status, .. } if !(400..600).contains(&status) => return Err("status is 400 to 599".to_owned()),
            Fault::Hang { seconds } | Fault::CostUnsettled { seconds } if !(0.0..=86_400.0).contains(&seconds) => {
                return Err("seconds is 0 to 86400".to_owned());
            }
            _ => {}
        }
        Ok(self.with(|rules| {
            rules.last_id += 1;
            rules.faults.push((rules.last_id, rule));
            rules.last_id
        }))
    }

    /// Removes a rule and returns whether it existed.
    pub(crate) fn remove(&self, id: u64) -> bool {
        self.with(|rules| {
            let before = rules.faults.len();
            rules.faults.retain(|(other, _)| *other != id);
            rules.faults.len() < before
        })
    }

    /// Removes all rules and returns their number.
    pub(crate) fn clear(&self) -> usize {
        self.with(|rules| std::mem::take(&mut rules.faults).len())
    }

    /// Returns the fault of the first rule that matches and counts it.
    pub(crate) fn take(&self, vendor: Vendor, op: &str, body: &[u8]) -> Option<Fault> {
        self.with(|rules| {
            let fits = |rule: &Rule| {
                let op_fits = match rule.op.as_deref() {
                    Some(named) => named == op,
                    None => !rule.fault.belongs_to_start() || op == "start",
                };
                rule.vendor == vendor && op_fits && rule.text.as_deref().is_none_or(|text| contains(body, text))
            };
            let index = rules.faults.iter().position(|(_, rule)| rule.times != Some(0) && fits(rule))?;
            let (_, rule) = rules.faults.get_mut(index)?;
            let fault = rule.fault.clone();
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            Some(fault)
        })
    }

    /// Rules a delay; the latest fitting one counts.
    pub(crate) fn delay(&self, latency: Latency) {
        self.with(|rules| rules.latencies.push(latency));
    }

    /// Removes all delays.
    pub(crate) fn clear_delays(&self) {
        self.with(|rules| rules.latencies.clear());
    }

    fn latency(&self, vendor: Vendor, body: &[u8]) -> Option<Latency> {
        self.with(|rules| {
            let fits = |latency: &&Latency| latency.vendor == vendor && latency.text.as_deref().is_none_or(|text| contains(body, text));
            rules.latencies.iter().rev().find(fits).cloned()
        })
    }

    /// Returns the duration of one call: by default 40 ms, and none at Supabase.
    pub(crate) fn call_time(&self, vendor: Vendor, body: &[u8]) -> Duration {
        let default = if vendor == Vendor::Supabase { 0 } else { 40 };
        Duration::from_millis(self.latency(vendor, body).and_then(|latency| latency.ms).unwrap_or(default))
    }

    /// Returns the duration of an Actor run: by default 60 ms and 5 ms for each profile.
    pub(crate) fn run_pace(&self, body: &[u8]) -> RunPace {
        let latency = self.latency(Vendor::Apify, body);
        let ms = |get: fn(&Latency) -> Option<u64>, default| Duration::from_millis(latency.as_ref().and_then(get).unwrap_or(default));
        RunPace { start: ms(|latency| latency.start_ms.or(latency.ms), 60), per_profile: ms(|latency| latency.per_profile_ms, 5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: serde_json::Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_first_matching_rule_applies_until_it_is_used_up() {
        let faults = Faults::default();
        faults.add(rule(json!({"vendor": "openai", "match": "nike", "fault": {"kind": "refusal"}, "times": 1})), &[]).unwrap();
        let id = faults.add(rule(json!({"vendor": "openai", "fault": {"kind": "status", "status": 429, "retry_after": 1}})), &[]).unwrap();
        let limited = Fault::Status { status: 429, retry_after: Some(1), error_type: None, code: None };
        assert_eq!(faults.take(Vendor::Openai, "responses", b"adidas"), Some(limited.clone()));
        assert_eq!(faults.take(Vendor::Openai, "responses", b"nike"), Some(Fault::Refusal));
        assert_eq!(faults.take(Vendor::Openai, "responses", b"nike"), Some(limited));
        assert_eq!(faults.take(Vendor::Anthropic, "messages", b"nike"), None);
        assert!(faults.remove(id) && !faults.remove(id));
        assert_eq!(faults.take(Vendor::Openai, "responses", b"nike"), None);
    }

    #[test]
    fn a_fault_of_a_run_applies_to_a_start() {
        let faults = Faults::default();
        faults.add(rule(json!({"vendor": "apify", "fault": {"kind": "run_failed"}, "times": 1})), &[]).unwrap();
        assert_eq!(faults.take(Vendor::Apify, "poll", b""), None);
        assert_eq!(faults.take(Vendor::Apify, "start", b""), Some(Fault::RunFailed { items: 0 }));
        assert_eq!(faults.clear(), 1);
    }

    #[test]
    fn a_fault_that_a_vendor_does_not_have_is_rejected() {
        let faults = Faults::default();
        for wrong in [
            json!({"vendor": "apify", "fault": {"kind": "refusal"}}),
            json!({"vendor": "openai", "op": "start", "fault": {"kind": "empty"}}),
            json!({"vendor": "openai", "fault": {"kind": "status", "status": 200}}),
            json!({"vendor": "openai", "fault": {"kind": "hang", "seconds": -1}}),
        ] {
            assert!(faults.add(rule(wrong.clone()), &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_latest_matching_delay_applies() {
        let faults = Faults::default();
        let default = faults.run_pace(b"x");
        faults.delay(serde_json::from_value(json!({"vendor": "apify", "start_ms": 500})).unwrap());
        faults.delay(serde_json::from_value(json!({"vendor": "openai", "match": "nike", "ms": 7})).unwrap());
        assert_eq!(faults.run_pace(b"x").start, Duration::from_millis(500));
        assert_eq!(faults.call_time(Vendor::Openai, b"nike"), Duration::from_millis(7));
        assert_eq!(faults.call_time(Vendor::Openai, b"adidas"), Duration::from_millis(40));
        faults.clear_delays();
        assert_eq!(faults.run_pace(b"x"), default);
    }
}
