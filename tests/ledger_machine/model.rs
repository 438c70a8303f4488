//! A model of the ledger: the reference for PostgreSQL's functions.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// Few of everything, so that operations collide: the same key, the same run, another account's run, the last credit.
pub const ACCOUNTS: usize = 3;
pub const RUNS: usize = 8;
pub const SESSIONS: usize = 4;
const KEYS: usize = 4;
/// The credits that a signup grants.
pub const SIGNUP: i32 = 25;
const TIERS: [(&str, i32); 3] = [("light", 1), ("deep", 3), ("xray", 5)];

/// A run's handle, which never changes, as its tier. Two runs share a handle, so each may find the other one live.
pub fn handle(run: usize) -> usize {
    run % (RUNS / 2)
}

pub fn tier(run: usize) -> &'static str {
    TIERS[run % TIERS.len()].0
}

fn price(run: usize) -> i32 {
    TIERS[run % TIERS.len()].1
}

/// The account that buys in a checkout session. A payment has four parts, some of which refunds return.
pub fn buyer(session: usize) -> usize {
    session % ACCOUNTS
}

pub fn credits_sold(session: usize) -> i32 {
    3 + 4 * i32::try_from(session).unwrap_or(0)
}

pub const PARTS: i32 = 4;
/// How many of the parts a dispute is about.
pub const DISPUTED: i32 = 2;
/// What becomes of a dispute. The last one reported stands, in this order, however events arrive.
pub const STATES: [&str; 3] = ["open", "lost", "won"];

/// An operation on the ledger.
#[derive(Debug, Clone)]
pub enum Operation {
    Grant {
        account: usize,
        amount: i32,
        key: usize,
    },
    Chargeback {
        account: usize,
        amount: i32,
        key: usize,
    },
    /// Stripe reports that a session was paid, in an event that may be redelivered, and in another event with the same content.
    Purchase {
        session: usize,
        event: usize,
    },
    /// Stripe reports how many parts of the payment were refunded so far.
    StripeRefund {
        session: usize,
        parts: i32,
    },
    /// Stripe reports that a refund of one part failed. There is one refund a part.
    RefundFailed {
        session: usize,
        refund: usize,
    },
    /// Stripe reports what became of a dispute about the payment: an index of [`STATES`].
    Dispute {
        session: usize,
        state: usize,
    },
    Queue {
        account: usize,
        run: usize,
    },
    Admit {
        account: usize,
        run: usize,
    },
    Complete {
        run: usize,
    },
    Fail {
        account: usize,
        run: usize,
    },
    Cancel {
        account: usize,
        run: usize,
    },
    /// A refund or a charge alone, outside of a run's functions.
    RefundAlone {
        run: usize,
    },
    ChargeAlone {
        account: usize,
        run: usize,
        amount: i32,
    },
}

/// The outcome of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Whether it was the first with its key.
    First(bool),
    /// How many credits were taken or returned.
    Credits(i32),
    /// The run's status, its error code, and what this call reports as refunded.
    Run { status: &'static str, code: Option<&'static str>, refunded: i32 },
    /// A batch's outcome.
    Batch(&'static str),
    /// An error, which changes nothing.
    Rejected,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub account: usize,
    pub status: &'static str,
    pub code: Option<&'static str>,
    pub charged: i32,
    queued: bool,
}

impl Run {
    fn is_live(&self) -> bool {
        matches!(self.status, "pending" | "processing")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Payment {
    paid: bool,
    parts_refunded: i32,
    failed: BTreeSet<usize>,
    dispute: Option<usize>,
    /// What was owed for it at the last event, in credits.
    owed: i32,
}

/// The expected ledger, balances and runs.
#[derive(Debug, Clone)]
pub struct Model {
    pub balances: [i32; ACCOUNTS],
    /// Credits that were spent before they could be taken back. What an account gets pays them first.
    pub shortfalls: [i32; ACCOUNTS],
    pub runs: BTreeMap<usize, Run>,
    keys: BTreeSet<(usize, usize)>,
    events: BTreeSet<(&'static str, usize, usize)>,
    payments: BTreeMap<usize, Payment>,
    /// The outcome of the last operation.
    pub outcome: Option<Outcome>,
}

impl Model {
    /// Returns accounts with these balances and shortfalls and nothing else.
    pub fn of(balances: [i32; ACCOUNTS], shortfalls: [i32; ACCOUNTS]) -> Self {
        let (runs, keys, events, payments) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { balances, shortfalls, runs, keys, events, payments, outcome: None }
    }

    /// Gives credits, which pay the account's shortfall first.
    fn give(&mut self, account: usize, credits: i32) {
        let collected = credits.min(self.shortfalls[account]);
        self.shortfalls[account] -= collected;
        self.balances[account] += credits - collected;
    }

    /// Whether a payment of the account is disputed, so that nothing can be spent.
    pub fn is_suspended(&self, account: usize) -> bool {
        self.payments.iter().any(|(session, payment)| buyer(*session) == account && payment.paid && payment.dispute == Some(0))
    }

    /// Executes an operation if it is allowed.
    pub fn execute(&mut self, operation: &Operation) -> Outcome {
        match *operation {
            Operation::Grant { account, amount, key } => {
                let first = self.keys.insert((account, key));
                self.give(account, if first { amount } else { 0 });
                Outcome::First(first)
            }
            Operation::Chargeback { account, amount, key } => {
                let taken = amount.min(self.balances[account]);
                // If nothing is taken, the key stays unused.
                let taken = if taken > 0 && self.keys.insert((account, key)) { taken } else { 0 };
                self.balances[account] -= taken;
                Outcome::Credits(taken)
            }
            Operation::Purchase { session, event } => {
                let first = self.events.insert(("purchase", session, event));
                let payment = self.payments.entry(session).or_default();
                if first && !payment.paid {
                    payment.paid = true;
                    self.give(buyer(session), credits_sold(session));
                }
                self.settle(session);
                Outcome::First(first)
            }
            Operation::StripeRefund { session, parts } => {
                let first = self.events.insert(("refund", session, usize::try_from(parts).unwrap_or(0)));
                let payment = self.payments.entry(session).or_default();
                payment.parts_refunded = payment.parts_refunded.max(parts);
                self.settle(session);
                Outcome::First(first)
            }
            Operation::RefundFailed { session, refund } => {
                let first = self.events.insert(("failure", session, refund));
                self.payments.entry(session).or_default().failed.insert(refund);
                self.settle(session);
                Outcome::First(first)
            }
            Operation::Dispute { session, state } => {
                let first = self.events.insert(("dispute", session, state));
                let payment = self.payments.entry(session).or_default();
                payment.dispute = payment.dispute.max(Some(state));
                self.settle(session);
                Outcome::First(first)
            }
            Operation::Queue { account, run } => self.queue(account, run),
            Operation::Admit { account, run } => self.admit(account, run),
            Operation::Complete { run } => match self.runs.get_mut(&run) {
                None => Outcome::Rejected,
                Some(run) => {
                    if run.status == "processing" {
                        run.status = "completed";
                    }
                    Outcome::Run { status: run.status, code: run.code, refunded: 0 }
                }
            },
            Operation::Fail { account, run } => self.fail(account, run),
            Operation::Cancel { account, run } => self.cancel(account, run),
            // A charge is refunded by the end of its run, and not otherwise.
            Operation::RefundAlone { run } => match self.runs.get(&run) {
                Some(run) if run.charged > 0 && matches!(run.status, "processing" | "completed") => Outcome::Rejected,
                _ => Outcome::Credits(0),
            },
            // Only a repetition of the same charge returns it.
            Operation::ChargeAlone { account, run, amount } => match self.runs.get(&run) {
                Some(run) if run.account == account && run.charged == amount => Outcome::Credits(amount),
                _ => Outcome::Rejected,
            },
        }
    }

    /// Takes back what was refunded or disputed of a payment, as far as the balance allows, or gives back what is not owed any longer.
    fn settle(&mut self, session: usize) {
        let payment = self.payments.entry(session).or_default();
        if !payment.paid {
            return;
        }
        let refunded = (payment.parts_refunded - i32::try_from(payment.failed.len()).unwrap_or(0)).max(0);
        let disputed = if payment.dispute.is_some_and(|state| STATES[state] != "won") { DISPUTED } else { 0 };
        let owed = credits_sold(session) * PARTS.min(refunded + disputed) / PARTS;
        let due = owed - std::mem::replace(&mut payment.owed, owed);
        let account = buyer(session);
        if due < 0 {
            return self.give(account, -due);
        }
        let taken = due.min(self.balances[account]);
        self.balances[account] -= taken;
        self.shortfalls[account] += due - taken;
    }

    fn duplicate_is_live(&self, account: usize, run: usize) -> bool {
        self.runs.iter().any(|(id, other)| *id != run && handle(*id) == handle(run) && other.account == account && other.is_live())
    }

    /// Whether the database may report `duplicates` where the model expects another rejection. A batch reads its balance, and whether its id
    /// is another account's, before it inserts its handles, and locks neither. If the credits are spent on the same handle, or the id is
    /// used, in between, the batch reports duplicates. No rejection changes anything.
    pub fn may_report_duplicates(&self, operation: &Operation, outcome: &Outcome) -> bool {
        let Operation::Queue { account, run } = *operation else { return false };
        let is_foreign = self.runs.get(&run).is_some_and(|known| known.account != account);
        let is_unable = self.is_suspended(account) || self.balances[account] < price(run);
        *outcome == Outcome::Batch("duplicates") && self.is_taken(account, run) && (is_foreign || is_unable)
    }

    fn is_taken(&self, account: usize, run: usize) -> bool {
        self.runs.contains_key(&run) || self.duplicate_is_live(account, run)
    }

    fn queue(&mut self, account: usize, run: usize) -> Outcome {
        if let Some(known) = self.runs.get(&run).filter(|known| known.queued) {
            return if known.account == account { Outcome::Batch("created") } else { Outcome::Rejected };
        }
        if self.is_suspended(account) {
            return Outcome::Batch("suspended");
        }
        if self.balances[account] < price(run) {
            return Outcome::Batch("insufficient");
        }
        if self.is_taken(account, run) {
            return Outcome::Batch("duplicates");
        }
        self.runs.insert(run, Run { account, status: "pending", code: None, charged: 0, queued: true });
        Outcome::Batch("created")
    }

    fn admit(&mut self, account: usize, id: usize) -> Outcome {
        let duplicate = self.duplicate_is_live(account, id);
        let known = self.runs.contains_key(&id);
        let is_suspended = self.is_suspended(account);
        let run = self.runs.entry(id).or_insert(Run { account, status: "pending", code: None, charged: 0, queued: false });
        if run.account != account {
            return Outcome::Rejected;
        }
        if run.status == "pending" {
            if !known && duplicate {
                (run.status, run.code) = ("failed", Some("DUPLICATE_ANALYSIS"));
            } else if is_suspended {
                (run.status, run.code) = ("failed", Some("SPENDING_SUSPENDED"));
            } else if self.balances[account] < price(id) {
                (run.status, run.code) = ("failed", Some("INSUFFICIENT_CREDITS"));
            } else {
                (run.status, run.charged) = ("processing", price(id));
                self.balances[account] -= price(id);
            }
        }
        Outcome::Run { status: run.status, code: run.code, refunded: 0 }
    }

    /// Ends a live run without a result. Returns the refund.
    fn end(&mut self, id: usize, status: &'static str, code: Option<&'static str>) -> i32 {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.is_live()) else { return 0 };
        (run.status, run.code) = (status, code);
        let (account, charged) = (run.account, run.charged);
        self.give(account, charged);
        charged
    }

    fn fail(&mut self, account: usize, id: usize) -> Outcome {
        let refunded = match self.runs.get(&id) {
            Some(run) if run.account != account => return Outcome::Run { status: "", code: None, refunded: 0 },
            Some(_) => self.end(id, "failed", Some("BROKEN")),
            None => {
                self.runs.insert(id, Run { account, status: "failed", code: Some("BROKEN"), charged: 0, queued: false });
                0
            }
        };
        let run = &self.runs[&id];
        Outcome::Run { status: run.status, code: run.code, refunded }
    }

    fn cancel(&mut self, account: usize, id: usize) -> Outcome {
        match self.runs.get(&id) {
            Some(run) if run.account != account => return Outcome::Run { status: "not_found", code: None, refunded: 0 },
            Some(_) => {
                self.end(id, "cancelled", None);
            }
            None => {
                self.runs.insert(id, Run { account, status: "cancelled", code: None, charged: 0, queued: false });
            }
        }
        let run = &self.runs[&id];
        // A repetition returns the same as the first call.
        let refunded = if run.status == "cancelled" { run.charged } else { 0 };
        Outcome::Run { status: run.status, code: None, refunded }
    }
}

/// Any operation: one that is not allowed must be rejected.
pub fn operation() -> BoxedStrategy<Operation> {
    let account = 0..ACCOUNTS;
    let run = 0..RUNS;
    prop_oneof![
        2 => (account.clone(), 1..6_i32, 0..KEYS).prop_map(|(account, amount, key)| Operation::Grant { account, amount, key }),
        3 => (account.clone(), 1..30_i32, 0..KEYS).prop_map(|(account, amount, key)| Operation::Chargeback { account, amount, key }),
        2 => (0..SESSIONS, 0..2_usize).prop_map(|(session, event)| Operation::Purchase { session, event }),
        2 => (0..SESSIONS, 1..=PARTS).prop_map(|(session, parts)| Operation::StripeRefund { session, parts }),
        2 => (0..SESSIONS, 0..2_usize).prop_map(|(session, refund)| Operation::RefundFailed { session, refund }),
        2 => (0..SESSIONS, 0..STATES.len()).prop_map(|(session, state)| Operation::Dispute { session, state }),
        3 => (account.clone(), run.clone()).prop_map(|(account, run)| Operation::Queue { account, run }),
        8 => (account.clone(), run.clone()).prop_map(|(account, run)| Operation::Admit { account, run }),
        3 => run.clone().prop_map(|run| Operation::Complete { run }),
        3 => (account.clone(), run.clone()).prop_map(|(account, run)| Operation::Fail { account, run }),
        3 => (account.clone(), run.clone()).prop_map(|(account, run)| Operation::Cancel { account, run }),
        2 => run.clone().prop_map(|run| Operation::RefundAlone { run }),
        2 => (account, run, prop::sample::select(vec![1, 3, 5]))
            .prop_map(|(account, run, amount)| Operation::ChargeAlone { account, run, amount }),
    ]
    .boxed()
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::of([SIGNUP; ACCOUNTS], [0; ACCOUNTS])).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Operation> {
        operation()
    }

    fn apply(mut model: Self, operation: &Operation) -> Self {
        model.outcome = Some(model.execute(operation));
        model
    }
}
