//! The log of all calls to the vendors, and the bill that follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bill::Tokens;

/// A vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Vendor {
    /// Scraping.
    Apify,
    /// Models, first provider.
    Openai,
    /// Models, second provider.
    Anthropic,
    /// Authentication.
    Supabase,
    /// Payments.
    Stripe,
    /// Error reports.
    Sentry,
}

/// Something whose cost grows while it runs.
pub(crate) trait Metered: std::fmt::Debug + Send + Sync {
    /// Returns the cost so far in micro-USD.
    fn cost(&self) -> i64;
}

/// The price of a call.
#[derive(Debug, Clone, Default)]
pub(crate) enum Owed {
    #[default]
    Nothing,
    /// An amount in micro-USD.
    MicroUsd(i64),
    /// The cost so far of an Actor run that the call started.
    Metered(Arc<dyn Metered>),
}

/// One entry of the call log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) vendor: Vendor,
    pub(crate) op: &'static str,
    #[serde(rename = "match")]
    pub(crate) handles: Vec<String>,
    pub(crate) started_at_ms: i64,
    pub(crate) ended_at_ms: Option<i64>,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: String,
    pub(crate) model: Option<String>,
    pub(crate) schema: Option<String>,
    /// Computed when the log is read, because a run's cost grows until it ends.
    bill_micro_usd: i64,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) delivered: bool,
    #[serde(skip)]
    pub(crate) owed: Owed,
    #[serde(skip)]
    body: Bytes,
}

impl Call {
    /// Returns whether the call's handles or request contain the text.
    fn concerns(&self, text: &str) -> bool {
        self.handles.iter().any(|handle| handle.contains(text)) || contains(&self.body, text)
    }

    /// Returns the price of the call, 0 unless its response reached the client: the bill then equals what a client knows that it spent.
    fn bill(&self) -> i64 {
        match &self.owed {
            _ if !self.delivered => 0,
            Owed::Nothing => 0,
            Owed::MicroUsd(amount) => *amount,
            Owed::Metered(run) => run.cost(),
        }
    }
}

/// Returns whether the body contains the text.
pub(crate) fn contains(body: &[u8], text: &str) -> bool {
    std::str::from_utf8(body).is_ok_and(|body| body.contains(text))
}

/// The filter of a query for calls.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    vendor: Option<Vendor>,
    #[serde(rename = "match")]
    text: Option<String>,
    since: Option<i64>,
}

/// The amounts that the vendors would charge.
#[derive(Debug, Serialize)]
pub(crate) struct Bill {
    total_micro_usd: i64,
    by_vendor: BTreeMap<Vendor, i64>,
}

/// All calls since the start or the last reset.
#[derive(Debug, Default)]
pub(crate) struct CallLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// The id of the first entry. A reset does not restart the ids.
    first: u64,
    calls: Vec<Call>,
}

impl CallLog {
    fn with<T>(&self, edit: impl FnOnce(&mut Entries) -> T) -> T {
        edit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn edit(&self, id: u64, edit: impl FnOnce(&mut Call)) {
        self.with(|entries| {
            let index = id.checked_sub(entries.first).and_then(|index| usize::try_from(index).ok());
            if let Some(call) = index.and_then(|index| entries.calls.get_mut(index)) {
                edit(call);
            }
        });
    }

    /// Records the start of a call. Dropping the returned guard before the response is ready records that the client disconnected.
    pub(crate) fn begin(self: &Arc<Self>, vendor: Vendor, op: &'static str, body: Bytes) -> OpenCall {
        let id = self.with(|entries| {
            let id = entries.first + entries.calls.len() as u64;
            entries.calls.push(Call {
                id,
                vendor,
                op,
                handles: Vec::new(),
                started_at_ms: Timestamp::now().as_millisecond(),
                ended_at_ms: None,
                status: None,
                outcome: "open".to_owned(),
                model: None,
                schema: None,
                bill_micro_usd: 0,
                tokens: None,
                delivered: false,
                owed: Owed::Nothing,
                body,
            });
            id
        });
        OpenCall { log: Arc::clone(self), id, open: true }
    }

    /// Returns the selected calls in the order of their start.
    pub(crate) fn list(&self, selection: &Selection) -> Vec<Call> {
        self.with(|entries| {
            let is_selected = |call: &&Call| {
                selection.vendor.is_none_or(|vendor| vendor == call.vendor)
                    && selection.since.is_none_or(|since| since <= call.started_at_ms)
                    && selection.text.as_deref().is_none_or(|text| call.concerns(text))
            };
            entries.calls.iter().filter(is_selected).map(|call| Call { bill_micro_usd: call.bill(), ..call.clone() }).collect()
        })
    }

    /// Returns the bill of the selected calls.
    pub(crate) fn bill(&self, selection: &Selection) -> Bill {
        let mut by_vendor = BTreeMap::new();
        for call in self.list(selection) {
            *by_vendor.entry(call.vendor).or_insert(0) += call.bill_micro_usd;
        }
        Bill { total_micro_usd: by_vendor.values().sum(), by_vendor }
    }

    /// Returns the raw request body of a call.
    pub(crate) fn body(&self, id: u64) -> Option<Bytes> {
        let mut body = None;
        self.edit(id, |call| body = Some(call.body.clone()));
        body
    }

    /// Removes all calls. Those still open are no longer recorded.
    pub(crate) fn clear(&self) {
        self.with(|entries| {
            entries.first += entries.calls.len() as u64;
            entries.calls.clear();
        });
    }
}

/// A call whose response is not complete.
#[derive(Debug)]
pub(crate) struct OpenCall {
    log: Arc<CallLog>,
    id: u64,
    open: bool,
}

impl OpenCall {
    /// Adds details to the entry.
    pub(crate) fn note(&self, edit: impl FnOnce(&mut Call)) {
        self.log.edit(self.id, edit);
    }

    /// Records that the response was sent.
    pub(crate) fn close(mut self, status: u16, outcome: &str, delivered: bool) {
        self.end(Some(status), outcome, delivered);
    }

    /// Records that the connection was closed without a response.
    pub(crate) fn disconnect(mut self) {
        self.end(None, "disconnect", false);
    }

    fn end(&mut self, status: Option<u16>, outcome: &str, delivered: bool) {
        self.open = false;
        self.log.edit(self.id, |call| {
            call.ended_at_ms = Some(Timestamp::now().as_millisecond());
            call.status = status;
            outcome.clone_into(&mut call.outcome);
            call.delivered = delivered;
        });
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if self.open {
            self.end(None, "client_gone", false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_delivered_is_billed() {
        let log = Arc::new(CallLog::default());
        let paid = log.begin(Vendor::Openai, "responses", Bytes::from_static(b"about nike"));
        paid.note(|call| call.owed = Owed::MicroUsd(271));
        paid.close(200, "ok", true);
        let lost = log.begin(Vendor::Anthropic, "messages", Bytes::from_static(b"about nike"));
        lost.note(|call| call.owed = Owed::MicroUsd(400));
        drop(lost);
        let calls = log.list(&Selection::default());
        assert_eq!(calls.iter().map(|call| call.outcome.as_str()).collect::<Vec<_>>(), ["ok", "client_gone"]);
        assert_eq!(
            serde_json::to_value(log.bill(&Selection::default())).unwrap(),
            serde_json::json!({
                "total_micro_usd": 271, "by_vendor": {"openai": 271, "anthropic": 0}
            })
        );
        let other = Selection { text: Some("adidas".to_owned()), ..Selection::default() };
        assert!(log.list(&other).is_empty());
    }

    #[test]
    fn a_reset_removes_calls_and_reuses_no_id() {
        let log = Arc::new(CallLog::default());
        let open = log.begin(Vendor::Supabase, "jwks", Bytes::new());
        log.clear();
        open.close(200, "ok", true);
        log.begin(Vendor::Supabase, "jwks", Bytes::from_static(b"x")).close(200, "ok", true);
        assert_eq!(log.list(&Selection::default()).iter().map(|call| call.id).collect::<Vec<_>>(), [1]);
        assert_eq!(log.body(1), Some(Bytes::from_static(b"x")));
        assert_eq!(log.body(0), None);
    }
}
