//! `renew_subscriptions`, on the first of the month at 03:00 UTC.

use std::time::Duration;

use oslira_db::{AdminDb, DbError};

use crate::schedule::Tally;

/// How many subscriptions a transaction renews. It holds their balances, for which charges wait.
const BATCH: u32 = 100;
/// How often, and in which steps, a run waits for another one that is at work on the same subscriptions. One that was killed lets go of
/// them, and the next schedule would be a month away.
const WAITS: u32 = 40;
const WAIT: Duration = Duration::from_millis(250);
/// How many identifiers a log line names.
const NAMED: usize = 50;

/// Gives every free subscription whose period is over the plan's credits for the period that it is now, once, and moves it there. Periods that
/// were missed (no schedule ran, the account was suspended or on a paid plan) are not made up for. Accounts that are deleted, suspended, on a
/// paid plan, or were renewed within 23 hours get nothing.
///
/// Stripe's subscriptions are renewed by their paid invoices and by nothing else. Those whose period ended over three days ago are reported:
/// their events were lost. A period that is paid and was not granted in full, as after a repair by hand, is settled.
///
/// # Errors
/// When the database does not answer, even after some time.
pub async fn renew_subscriptions(tally: &mut Tally, db: &AdminDb) -> Result<(), DbError> {
    let overdue = tally.batch(|| db.overdue_subscriptions()).await?;
    tally.count("overdue_subscriptions", overdue.len() as u64);
    if !overdue.is_empty() {
        let named = &overdue[..overdue.len().min(NAMED)];
        tracing::warn!(count = overdue.len(), subscriptions = ?named, "Stripe's subscriptions are overdue: compare them with Stripe");
    }
    if tally.dry_run() {
        let (free, paid) = tally.batch(|| db.renewable()).await?;
        tally.count("renewed", free);
        tally.count("settled_periods", paid);
        return Ok(());
    }
    for name in ["renewed", "settled_periods", "credits_granted"] {
        tally.count(name, 0);
    }
    let mut waits = 0;
    while tally.has_time() {
        let free = tally.batch(|| db.renew_subscriptions(BATCH)).await?;
        let paid = tally.batch(|| db.settle_owed_periods(BATCH)).await?;
        tally.count("renewed", free.settled);
        tally.count("settled_periods", paid.settled);
        tally.count("credits_granted", free.credits + paid.credits);
        if free.picked > 0 || paid.picked > 0 {
            continue;
        }
        // Nothing is free to be taken. What is still due is held by another run.
        if tally.batch(|| db.renewable()).await? == (0, 0) {
            break;
        }
        if waits == WAITS {
            tally.leave_rest();
            break;
        }
        waits += 1;
        tokio::time::sleep(WAIT).await;
    }
    Ok(())
}
