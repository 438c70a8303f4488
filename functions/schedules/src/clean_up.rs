//! `clean_up`, daily at 02:00 UTC.

use std::cell::Cell;

use oslira_db::schedules::Retained;
use oslira_db::{AdminDb, DbError};
use oslira_lambda::schedule::ScheduledRun;

/// How many rows a transaction removes: some milliseconds, for which others can wait.
const BATCH: u32 = 500;

/// How many identifiers a log line names.
const NAMED: usize = 50;

/// Reconciles first, so that no later failure can prevent it: the ledger with balances, charges and refunds with runs, payments with the
/// credits that they granted and took back. A mismatch is logged as an error and counted as `money_mismatches`, on which there is an alarm.
///
/// Then removes what has outlived its retention: costs of vendor calls after 90 days, idempotency keys after 24 hours, and 30 days after their
/// deletion analyses, leads and business profiles, in this order, since each refers to the next. Of a deleted account everything is removed
/// except its row, without a name or members, and its ledger. Rows that another transaction has locked are left for the next day.
///
/// # Errors
/// When the database is not available, even after some time.
pub async fn clean_up(run: &mut ScheduledRun, db: &AdminDb) -> Result<(), DbError> {
    let compared = reconcile(run, db).await;
    let checked = check_subscriptions(run, db).await;
    let removed = remove(run, db).await;
    compared.and(checked).and(removed)
}

/// Reports Stripe's subscriptions whose period ended over three days ago without an event about them: their events were lost. There is an alarm on
/// their number.
async fn check_subscriptions(run: &mut ScheduledRun, db: &AdminDb) -> Result<(), DbError> {
    let overdue = run.batch(|| db.overdue_subscriptions()).await?;
    run.watch("overdue_subscriptions", overdue.len() as u64);
    if !overdue.is_empty() {
        let named = &overdue[..overdue.len().min(NAMED)];
        tracing::warn!(count = overdue.len(), subscriptions = ?named, "subscriptions of Stripe are overdue: compare them with Stripe");
    }
    Ok(())
}

async fn remove(run: &mut ScheduledRun, db: &AdminDb) -> Result<(), DbError> {
    for table in Retained::IN_ORDER {
        if run.dry_run() {
            let expired = run.batch(|| db.count_expired(table)).await?;
            run.count(table.as_str(), expired);
        } else {
            run.batches(table.as_str(), BATCH.into(), || db.remove_expired(table, BATCH)).await?;
        }
    }
    Ok(())
}

async fn reconcile(run: &mut ScheduledRun, db: &AdminDb) -> Result<(), DbError> {
    run.count("accounts_reconciled", 0);
    let (mut after, size) = (None, Cell::new(BATCH));
    while run.has_time() {
        let compare = || async {
            let outcome = db.reconcile(after, size.get()).await;
            if matches!(outcome, Err(DbError::Conflict(_))) {
                // More than a statement has time for. Smaller parts also reach the accounts behind those with long ledgers.
                size.set((size.get() / 8).max(1));
            }
            outcome
        };
        let part = run.batch(compare).await?;
        size.set((size.get() * 2).min(BATCH));
        run.count("accounts_reconciled", part.accounts);
        if part.mismatches > 0 {
            run.watch("money_mismatches", part.mismatches);
        }
        for fault in &part.faults {
            tracing::error!(fault = fault.fault, subject = fault.subject, "the ledger does not reconcile");
        }
        after = part.next;
        if after.is_none() {
            // Only a run that has compared all accounts may report that there is no mismatch.
            run.watch("money_mismatches", 0);
            break;
        }
    }
    Ok(())
}
