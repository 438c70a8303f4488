//! `renew_subscriptions`, every day at 03:00 UTC.

use std::time::Duration;

use oslira_db::{AdminDb, DbError};
use oslira_lambda::schedule::ScheduledRun;

/// How many subscriptions a transaction renews. It holds their balances, for which charges wait.
const BATCH: u32 = 100;
/// How often, and in which steps, a run waits for another one that holds the same subscriptions. One that was killed releases them, and the
/// next scheduled run would be a day away.
const WAITS: u32 = 40;
const WAIT: Duration = Duration::from_millis(250);

/// Grants every free subscription whose period is over the plan's credits for the current period, once, and moves it to that period. Missed
/// periods (no schedule ran, the account was suspended or on a paid plan) are not granted later. Accounts that are deleted, suspended, on a
/// paid plan, or were renewed within 23 hours get nothing.
///
/// Only paid invoices renew Stripe's subscriptions. A period that is paid and was not granted in full, as after a repair by hand, is settled.
///
/// # Errors
/// When the database is not available, even after some time.
pub async fn renew_subscriptions(run: &mut ScheduledRun, db: &AdminDb) -> Result<(), DbError> {
    if run.dry_run() {
        let (free, paid) = run.batch(|| db.renewable()).await?;
        run.count("renewed", free);
        run.count("settled_periods", paid);
        return Ok(());
    }
    for name in ["renewed", "settled_periods", "credits_granted"] {
        run.count(name, 0);
    }
    let mut waits = 0;
    while run.has_time() {
        let free = run.batch(|| db.renew_subscriptions(BATCH)).await?;
        let paid = run.batch(|| db.settle_owed_periods(BATCH)).await?;
        run.count("renewed", free.settled);
        run.count("settled_periods", paid.settled);
        run.count("credits_granted", free.credits + paid.credits);
        if free.picked > 0 || paid.picked > 0 {
            continue;
        }
        // Every subscription that is still due is locked by another run.
        if run.batch(|| db.renewable()).await? == (0, 0) {
            break;
        }
        if waits == WAITS {
            run.set_unfinished();
            break;
        }
        waits += 1;
        tokio::time::sleep(WAIT).await;
    }
    Ok(())
}
