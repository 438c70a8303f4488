//! What an Actor run costs, from what Apify reports of it.
//!
//! Facts, seen in November 2026: `usageTotalUsd` of an Actor that is paid by event is 0 or null when it has just ended, and settles some ten
//! seconds later; so do, sometimes, the numbers of charged events. An Actor that is paid by item reports a price only.

use jiff::{SignedDuration, Timestamp};
use oslira_domain::MicroUsd;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long after its end an Actor run that reports no cost has cost nothing.
const SETTLED: SignedDuration = SignedDuration::from_mins(2);

/// The cost of an Actor run, as far as Apify reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorCost {
    /// It cost this.
    Known(MicroUsd),
    /// It costs this for each item of its dataset.
    PerItem(MicroUsd),
    /// It cost at least this: it has not ended, or Apify has not settled it.
    Unsettled(MicroUsd),
}

impl ActorCost {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self::Unsettled(MicroUsd::ZERO);

    /// Returns what is known to be due.
    pub const fn amount(self) -> MicroUsd {
        match self {
            Self::Known(amount) | Self::Unsettled(amount) => amount,
            Self::PerItem(_) => MicroUsd::ZERO,
        }
    }

    /// Whether the amount is all that is due.
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// Returns the cost of an Actor run whose dataset has so many items.
    #[must_use]
    pub fn with_items(self, items: u32) -> Self {
        match self {
            Self::PerItem(price) => Self::Known(MicroUsd(price.0.saturating_mul(i64::from(items)))),
            other => other,
        }
    }
}

/// What Apify reports of the cost of an Actor run. Fields that are not what is documented count as absent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReportedCost {
    usage_total_usd: Value,
    charged_event_counts: Value,
    pricing_info: Value,
}

impl ReportedCost {
    /// Returns the cost of an Actor run that ended at `finished_at`, or has not ended, at the time `now`.
    pub(crate) fn cost(&self, is_terminal: bool, finished_at: Option<Timestamp>, now: Timestamp) -> ActorCost {
        let reported = amount(&self.usage_total_usd);
        let charged = self.charged();
        let due = reported.unwrap_or_default().max(charged.unwrap_or_default());
        if !is_terminal {
            return ActorCost::Unsettled(due);
        }
        let model = self.pricing_info["pricingModel"].as_str();
        if let ("PRICE_PER_DATASET_ITEM", MicroUsd::ZERO, Some(price)) =
            (model.unwrap_or_default(), due, amount(&self.pricing_info["pricePerUnitUsd"]))
        {
            return ActorCost::PerItem(price);
        }
        // Resources may be reported before the events that are charged.
        let evidence = if model == Some("PAY_PER_EVENT") { charged.unwrap_or_default() } else { due };
        let is_settled = finished_at.is_some_and(|finished_at| now.duration_since(finished_at) >= SETTLED);
        if evidence > MicroUsd::ZERO || (is_settled && reported.is_some()) { ActorCost::Known(due) } else { ActorCost::Unsettled(due) }
    }

    /// Returns the charged events times their prices. `None` if an event that was charged has no price.
    fn charged(&self) -> Option<MicroUsd> {
        let prices = &self.pricing_info["pricingPerEvent"]["actorChargeEvents"];
        let events = self.charged_event_counts.as_object()?.iter();
        let usd = events.map(|(event, count)| match count.as_f64().filter(|count| *count > 0.0) {
            Some(count) => prices[event]["eventPriceUsd"].as_f64().map(|price| count * price),
            None => Some(0.0),
        });
        Some(MicroUsd::from_usd(usd.sum::<Option<f64>>()?.max(0.0)))
    }
}

/// Returns an amount in US dollars, as a number or a text. `None` if it is absent or negative.
fn amount(usd: &Value) -> Option<MicroUsd> {
    let usd = usd.as_f64().or_else(|| usd.as_str()?.parse().ok())?;
    (usd.is_finite() && usd >= 0.0).then(|| MicroUsd::from_usd(usd))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use ActorCost::{Known, PerItem, Unsettled};

    const NOW: &str = "2026-11-01T10:00:10Z";

    fn cost(run: Value, status_is_terminal: bool, now: &str) -> ActorCost {
        let reported: ReportedCost = serde_json::from_value(run).unwrap();
        reported.cost(status_is_terminal, "2026-11-01T10:00:09Z".parse().ok(), now.parse().unwrap())
    }

    fn by_event(total: &Value, counts: &Value) -> Value {
        let events = json!({"result": {"eventPriceUsd": 0.0023}, "error-result": {"eventPriceUsd": 0.001}, "start": {}});
        json!({
            "usageTotalUsd": total, "chargedEventCounts": counts,
            "pricingInfo": {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": events}}
        })
    }

    #[test]
    fn a_cost_that_is_not_settled_is_unknown_and_never_zero() {
        for total in [json!(0), json!(null), json!("soon"), json!(-1)] {
            for counts in [json!({"result": 0}), json!({}), json!(null)] {
                let run = by_event(&total, &counts);
                assert_eq!(cost(run.clone(), true, NOW), ActorCost::UNKNOWN, "{run}");
                // What is still absent later stays unknown. A number that is still 0 is what it cost.
                let later = if total == json!(0) { Known(MicroUsd::ZERO) } else { ActorCost::UNKNOWN };
                assert_eq!(cost(run, true, "2026-11-01T10:02:09Z"), later);
            }
        }
        assert_eq!(cost(json!({}), true, NOW), ActorCost::UNKNOWN);
    }

    #[test]
    fn charged_events_have_their_prices_at_once() {
        for total in [json!(0), json!(null), json!(0.0033), json!(0.0001)] {
            let run = by_event(&total, &json!({"result": 1, "error-result": 1, "start": 0}));
            assert_eq!(cost(run, true, NOW), Known(MicroUsd(3300)), "{total}");
        }
        assert_eq!(cost(by_event(&json!(0.0046), &json!({"result": 1})), true, NOW), Known(MicroUsd(4600)), "the larger one is due");
        // Without a price, and without the events, the total is only what has arrived.
        assert_eq!(cost(by_event(&json!(0.0001), &json!({"start": 1})), true, NOW), Unsettled(MicroUsd(100)));
        assert_eq!(cost(by_event(&json!(0.0001), &json!({"result": 0})), true, NOW), Unsettled(MicroUsd(100)));
        assert_eq!(cost(by_event(&json!(0.0001), &json!({"start": 1})), true, "2026-11-01T11:00:00Z"), Known(MicroUsd(100)));
    }

    #[test]
    fn an_actor_run_that_goes_on_may_cost_more() {
        assert_eq!(cost(by_event(&json!(0.0023), &json!({"result": 1})), false, NOW), Unsettled(MicroUsd(2300)));
    }

    #[test]
    fn items_have_a_price_and_resources_a_total() {
        let by_item = json!({"pricingInfo": {"pricingModel": "PRICE_PER_DATASET_ITEM", "pricePerUnitUsd": 0.0026, "unitName": "result"}});
        assert_eq!(cost(by_item.clone(), true, NOW), PerItem(MicroUsd(2600)));
        assert_eq!(cost(by_item, true, NOW).with_items(3), Known(MicroUsd(7800)));
        assert_eq!((PerItem(MicroUsd(2600)).amount(), PerItem(MicroUsd(2600)).is_known()), (MicroUsd::ZERO, false));
        assert_eq!(cost(json!({"usageTotalUsd": 0.0023}), true, NOW), Known(MicroUsd(2300)));
        assert_eq!(ActorCost::UNKNOWN.with_items(3), ActorCost::UNKNOWN);
    }
}
