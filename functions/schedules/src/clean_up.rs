//! `clean_up`, daily at 02:00 UTC.

use std::cell::Cell;

use oslira_db::schedules::Retained;
use oslira_db::{AdminDb, DbError};

use crate::schedule::Tally;

/// How many rows a transaction removes: some milliseconds, in which nobody waits for long.
const BATCH: u32 = 500;

/// Compares the books first, so that nothing that follows can keep it from being done: ledger against balances, charges and refunds against
/// runs, payments against what they gave and took. What must never be is told as an error, and counted as `money_mismatches`, on which
/// there is an alarm.
///
/// Then removes what has outlived its retention: costs of vendor calls after 90 days, idempotency keys after 24 hours, and 30 days after their
/// deletion analyses, leads and business profiles, in this order, since each refers to the next. Of a deleted account everything goes but
/// its row, without a name or members, and its books. Rows that somebody holds at the moment are left for the next day.
///
/// # Errors
/// When the database does not answer, even after some time.
pub async fn clean_up(tally: &mut Tally, db: &AdminDb) -> Result<(), DbError> {
    let compared = reconcile(tally, db).await;
    let removed = remove(tally, db).await;
    compared.and(removed)
}

async fn remove(tally: &mut Tally, db: &AdminDb) -> Result<(), DbError> {
    for table in Retained::IN_ORDER {
        if tally.dry_run() {
            let expired = tally.batch(|| db.count_expired(table)).await?;
            tally.count(table.as_str(), expired);
        } else {
            tally.batches(table.as_str(), BATCH.into(), || db.remove_expired(table, BATCH)).await?;
        }
    }
    Ok(())
}

async fn reconcile(tally: &mut Tally, db: &AdminDb) -> Result<(), DbError> {
    tally.count("accounts_reconciled", 0);
    let (mut after, size) = (None, Cell::new(BATCH));
    while tally.has_time() {
        let compare = || async {
            let outcome = db.reconcile(after, size.get()).await;
            if matches!(outcome, Err(DbError::Conflict(_))) {
                // More than a statement has time for. Whoever is behind accounts with long books has a turn too.
                size.set((size.get() / 8).max(1));
            }
            outcome
        };
        let part = tally.batch(compare).await?;
        size.set((size.get() * 2).min(BATCH));
        tally.count("accounts_reconciled", part.accounts);
        if part.mismatches > 0 {
            tally.count("money_mismatches", part.mismatches);
        }
        for fault in &part.faults {
            tracing::error!(fault = fault.fault, subject = fault.subject, "the books are not true");
        }
        after = part.next;
        if after.is_none() {
            // Only who has seen all of the books may say that there is nothing.
            tally.count("money_mismatches", 0);
            break;
        }
    }
    Ok(())
}
