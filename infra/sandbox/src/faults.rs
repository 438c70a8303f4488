//! Failures and delays on demand.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::calls::{Vendor, contains};

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The vendor's own error body with this HTTP status.
    Status {
        status: u16,
        #[serde(default)]
        retry_after: Option<u64>,
        /// The vendor's error type, where another than the status' usual one is wanted.
        #[serde(default)]
        error_type: Option<String>,
        /// The vendor's error code, such as `credit_balance_exhausted`.
        #[serde(default)]
        code: Option<String>,
    },
    /// Silence, then the usual answer for whoever still waits.
    Hang { seconds: f64 },
    /// The connection closes without an answer.
    Disconnect,
    /// The first half of the usual answer.
    TruncatedJson,
    /// The model declines.
    Refusal,
    /// The output budget ends in the middle of the answer.
    MaxTokens,
    /// JSON, but not what the schema asks for.
    SchemaViolation,
    /// Prose instead of JSON.
    NotJson,
    /// No text at all.
    Empty,
    /// The Actor run ends FAILED.
    RunFailed,
    /// The Actor run ends TIMED-OUT.
    RunTimedOut,
    /// The Actor run ends ABORTED without anyone asking.
    RunAborted,
    /// The run succeeds and leaves nothing.
    EmptyDataset,
    /// Instagram blocked the scraper: items without name and picture.
    Blocked,
}

impl Fault {
    fn fits(&self, vendor: Vendor) -> bool {
        match self {
            Self::Status { .. } | Self::Hang { .. } | Self::Disconnect | Self::TruncatedJson => true,
            Self::Refusal | Self::MaxTokens | Self::SchemaViolation | Self::NotJson | Self::Empty => {
                matches!(vendor, Vendor::Openai | Vendor::Anthropic)
            }
            Self::RunFailed | Self::RunTimedOut | Self::RunAborted | Self::EmptyDataset | Self::Blocked => vendor == Vendor::Apify,
        }
    }

    /// Faults of a whole run are decided when it starts.
    fn belongs_to_start(&self) -> bool {
        matches!(self, Self::RunFailed | Self::RunTimedOut | Self::RunAborted | Self::EmptyDataset | Self::Blocked)
    }
}

/// A fault as it is ordered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    vendor: Vendor,
    #[serde(rename = "match")]
    text: Option<String>,
    /// Apify: `start`, `poll`, `items` or `abort`. Stripe: `customers`, `sessions` and so on.
    op: Option<String>,
    fault: Fault,
    /// How often; until removed if absent.
    times: Option<u64>,
}

/// A delay as it is ordered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Latency {
    vendor: Vendor,
    #[serde(rename = "match")]
    text: Option<String>,
    /// Models, sign-in and payments: the time of one call.
    ms: Option<u64>,
    /// Apify: from the start of a run to its first profile.
    start_ms: Option<u64>,
    /// Apify: each profile.
    per_profile_ms: Option<u64>,
}

/// How long an Actor run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunPace {
    pub(crate) start: Duration,
    pub(crate) per_profile: Duration,
}

/// All that is ordered.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Orders>);

#[derive(Debug, Default)]
struct Orders {
    last_id: u64,
    rules: Vec<(u64, Rule)>,
    latencies: Vec<Latency>,
}

impl Faults {
    fn with<T>(&self, work: impl FnOnce(&mut Orders) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Orders a fault and gives its id.
    ///
    /// # Errors
    /// When this vendor cannot fail that way.
    pub(crate) fn add(&self, rule: Rule) -> Result<u64, String> {
        if !rule.fault.fits(rule.vendor) {
            return Err("this vendor cannot fail in that way".to_owned());
        }
        match rule.op.as_deref() {
            None => {}
            Some("start" | "poll" | "items" | "abort") if rule.vendor == Vendor::Apify => {}
            Some(op) if rule.vendor == Vendor::Stripe && crate::stripe::OPERATIONS.contains(&op) => {}
            Some(_) => return Err("op is start, poll, items or abort for apify, or one of stripe's".to_owned()),
        }
        match rule.fault {
            Fault::Status { status, .. } if !(400..600).contains(&status) => return Err("status is 400 to 599".to_owned()),
            Fault::Hang { seconds } if !(0.0..=86_400.0).contains(&seconds) => return Err("seconds is 0 to 86400".to_owned()),
            _ => {}
        }
        Ok(self.with(|orders| {
            orders.last_id += 1;
            orders.rules.push((orders.last_id, rule));
            orders.last_id
        }))
    }

    /// Takes back one fault; false if there is none of that id (any more).
    pub(crate) fn remove(&self, id: u64) -> bool {
        self.with(|orders| {
            let before = orders.rules.len();
            orders.rules.retain(|(other, _)| *other != id);
            orders.rules.len() < before
        })
    }

    /// Takes back all faults and says how many.
    pub(crate) fn clear(&self) -> usize {
        self.with(|orders| std::mem::take(&mut orders.rules).len())
    }

    /// The first fault that fits, used up once.
    pub(crate) fn take(&self, vendor: Vendor, op: &str, body: &[u8]) -> Option<Fault> {
        self.with(|orders| {
            let fits = |rule: &Rule| {
                let op_fits = match rule.op.as_deref() {
                    Some(wanted) => wanted == op,
                    None => !rule.fault.belongs_to_start() || op == "start",
                };
                rule.vendor == vendor && op_fits && rule.text.as_deref().is_none_or(|text| contains(body, text))
            };
            let index = orders.rules.iter().position(|(_, rule)| rule.times != Some(0) && fits(rule))?;
            let (_, rule) = orders.rules.get_mut(index)?;
            let fault = rule.fault.clone();
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            Some(fault)
        })
    }

    /// Orders a delay; the latest fitting one counts.
    pub(crate) fn delay(&self, latency: Latency) {
        self.with(|orders| orders.latencies.push(latency));
    }

    /// Back to the usual delays.
    pub(crate) fn undelay(&self) {
        self.with(|orders| orders.latencies.clear());
    }

    fn latency(&self, vendor: Vendor, body: &[u8]) -> Option<Latency> {
        self.with(|orders| {
            let fits = |order: &&Latency| order.vendor == vendor && order.text.as_deref().is_none_or(|text| contains(body, text));
            orders.latencies.iter().rev().find(fits).cloned()
        })
    }

    /// The time of one call: 40 ms for a model or a payment, none for sign-in keys.
    pub(crate) fn call_time(&self, vendor: Vendor, body: &[u8]) -> Duration {
        let usual = if vendor == Vendor::Supabase { 0 } else { 40 };
        Duration::from_millis(self.latency(vendor, body).and_then(|order| order.ms).unwrap_or(usual))
    }

    /// The time of an Actor run: 60 ms and 5 ms a profile.
    pub(crate) fn run_pace(&self, body: &[u8]) -> RunPace {
        let order = self.latency(Vendor::Apify, body);
        let ms = |get: fn(&Latency) -> Option<u64>, usual| Duration::from_millis(order.as_ref().and_then(get).unwrap_or(usual));
        RunPace { start: ms(|order| order.start_ms.or(order.ms), 60), per_profile: ms(|order| order.per_profile_ms, 5) }
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
    fn the_first_fitting_fault_is_used_up_and_the_next_takes_over() {
        let faults = Faults::default();
        faults.add(rule(json!({"vendor": "openai", "match": "nike", "fault": {"kind": "refusal"}, "times": 1}))).unwrap();
        let id = faults.add(rule(json!({"vendor": "openai", "fault": {"kind": "status", "status": 429, "retry_after": 1}}))).unwrap();
        let limited = Fault::Status { status: 429, retry_after: Some(1), error_type: None, code: None };
        assert_eq!(faults.take(Vendor::Openai, "responses", b"adidas"), Some(limited.clone()));
        assert_eq!(faults.take(Vendor::Openai, "responses", b"nike"), Some(Fault::Refusal));
        assert_eq!(faults.take(Vendor::Openai, "responses", b"nike"), Some(limited));
        assert_eq!(faults.take(Vendor::Anthropic, "messages", b"nike"), None);
        assert!(faults.remove(id) && !faults.remove(id));
        assert_eq!(faults.take(Vendor::Openai, "responses", b"nike"), None);
    }

    #[test]
    fn a_fault_of_a_run_waits_for_a_start() {
        let faults = Faults::default();
        faults.add(rule(json!({"vendor": "apify", "fault": {"kind": "run_failed"}, "times": 1}))).unwrap();
        assert_eq!(faults.take(Vendor::Apify, "poll", b""), None);
        assert_eq!(faults.take(Vendor::Apify, "start", b""), Some(Fault::RunFailed));
        assert_eq!(faults.clear(), 1);
    }

    #[test]
    fn what_a_vendor_cannot_do_is_refused() {
        let faults = Faults::default();
        for wrong in [
            json!({"vendor": "apify", "fault": {"kind": "refusal"}}),
            json!({"vendor": "openai", "op": "start", "fault": {"kind": "empty"}}),
            json!({"vendor": "openai", "fault": {"kind": "status", "status": 200}}),
            json!({"vendor": "openai", "fault": {"kind": "hang", "seconds": -1}}),
        ] {
            assert!(faults.add(rule(wrong.clone())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_latest_fitting_delay_counts() {
        let faults = Faults::default();
        let usual = faults.run_pace(b"x");
        faults.delay(serde_json::from_value(json!({"vendor": "apify", "start_ms": 500})).unwrap());
        faults.delay(serde_json::from_value(json!({"vendor": "openai", "match": "nike", "ms": 7})).unwrap());
        assert_eq!(faults.run_pace(b"x").start, Duration::from_millis(500));
        assert_eq!(faults.call_time(Vendor::Openai, b"nike"), Duration::from_millis(7));
        assert_eq!(faults.call_time(Vendor::Openai, b"adidas"), Duration::from_millis(40));
        faults.undelay();
        assert_eq!(faults.run_pace(b"x"), usual);
    }
}
