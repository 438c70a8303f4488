//! What the ledger promises, as a few lines of Rust: the reference that PostgreSQL is held to.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// Few of everything, so that operations meet: the same key, the same run, somebody else's run, the last credit.
pub const ACCOUNTS: usize = 3;
pub const RUNS: usize = 8;
pub const SESSIONS: usize = 4;
const KEYS: usize = 4;
/// What a signup gives.
pub const SIGNUP: i32 = 25;
const TIERS: [(&str, i32); 3] = [("light", 1), ("deep", 3), ("xray", 5)];

/// A handle and its tier, which are a run's for its life. Two runs share a handle, so each may find the other under way.
pub fn handle(run: usize) -> usize {
    run % (RUNS / 2)
}

pub fn tier(run: usize) -> &'static str {
    TIERS[run % TIERS.len()].0
}

fn price(run: usize) -> i32 {
    TIERS[run % TIERS.len()].1
}

/// Whose checkout a session is, and what it sells. A payment is worth four parts, of which refunds give back some.
pub fn buyer(session: usize) -> usize {
    session % ACCOUNTS
}

pub fn credits_sold(session: usize) -> i32 {
    3 + 4 * i32::try_from(session).unwrap_or(0)
}

pub const PARTS: i32 = 4;

/// What the database is asked to do.
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
    /// Stripe says that a session was paid, in an event that may come again, and in another one that says the same.
    Purchase {
        session: usize,
        event: usize,
    },
    /// Stripe says how many parts of the payment went back so far.
    StripeRefund {
        session: usize,
        parts: i32,
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
    /// A refund or a charge by itself, outside of a run's life.
    RefundAlone {
        run: usize,
    },
    ChargeAlone {
        account: usize,
        run: usize,
        amount: i32,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Whether it was the first of its key.
    First(bool),
    /// How many credits were taken or given back.
    Credits(i32),
    /// How the run stands, why, and what this call reports as refunded.
    Run { status: &'static str, code: Option<&'static str>, refunded: i32 },
    /// A batch's outcome.
    Batch(&'static str),
    /// An error, after which everything is as before.
    Refused,
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
    taken: i32,
    shortfall: i32,
}

/// The books as they should be.
#[derive(Debug, Clone)]
pub struct Books {
    pub balances: [i32; ACCOUNTS],
    pub runs: BTreeMap<usize, Run>,
    keys: BTreeSet<(usize, usize)>,
    events: BTreeSet<(&'static str, usize, usize)>,
    payments: BTreeMap<usize, Payment>,
    /// What the last operation answers.
    pub answer: Option<Answer>,
}

impl Books {
    /// Accounts with these balances and nothing else.
    pub fn of(balances: [i32; ACCOUNTS]) -> Self {
        Self { balances, runs: BTreeMap::new(), keys: BTreeSet::new(), events: BTreeSet::new(), payments: BTreeMap::new(), answer: None }
    }

    /// Does what the operation says, if it may be done, and answers.
    pub fn perform(&mut self, operation: &Operation) -> Answer {
        match *operation {
            Operation::Grant { account, amount, key } => {
                let first = self.keys.insert((account, key));
                self.balances[account] += if first { amount } else { 0 };
                Answer::First(first)
            }
            Operation::Chargeback { account, amount, key } => {
                let taken = amount.min(self.balances[account]);
                // Nothing taken leaves the key unused.
                let taken = if taken > 0 && self.keys.insert((account, key)) { taken } else { 0 };
                self.balances[account] -= taken;
                Answer::Credits(taken)
            }
            Operation::Purchase { session, event } => {
                let first = self.events.insert(("purchase", session, event));
                let payment = self.payments.entry(session).or_default();
                if first && !payment.paid {
                    payment.paid = true;
                    self.balances[buyer(session)] += credits_sold(session);
                }
                self.settle(session);
                Answer::First(first)
            }
            Operation::StripeRefund { session, parts } => {
                let first = self.events.insert(("refund", session, usize::try_from(parts).unwrap_or(0)));
                let payment = self.payments.entry(session).or_default();
                payment.parts_refunded = payment.parts_refunded.max(parts);
                self.settle(session);
                Answer::First(first)
            }
            Operation::Queue { account, run } => self.queue(account, run),
            Operation::Admit { account, run } => self.admit(account, run),
            Operation::Complete { run } => match self.runs.get_mut(&run) {
                None => Answer::Refused,
                Some(run) => {
                    if run.status == "processing" {
                        run.status = "completed";
                    }
                    Answer::Run { status: run.status, code: run.code, refunded: 0 }
                }
            },
            Operation::Fail { account, run } => self.fail(account, run),
            Operation::Cancel { account, run } => self.cancel(account, run),
            // A run that keeps its charge gives it back by ending, and not otherwise.
            Operation::RefundAlone { run } => match self.runs.get(&run) {
                Some(run) if run.charged > 0 && matches!(run.status, "processing" | "completed") => Answer::Refused,
                _ => Answer::Credits(0),
            },
            // Only the very charge that was made is answered again.
            Operation::ChargeAlone { account, run, amount } => match self.runs.get(&run) {
                Some(run) if run.account == account && run.charged == amount => Answer::Credits(amount),
                _ => Answer::Refused,
            },
        }
    }

    /// Takes back what was refunded of a payment, as far as there is something.
    fn settle(&mut self, session: usize) {
        let payment = self.payments.entry(session).or_default();
        if !payment.paid {
            return;
        }
        let due = credits_sold(session) * payment.parts_refunded / PARTS - payment.taken - payment.shortfall;
        let balance = &mut self.balances[buyer(session)];
        let taken = due.min(*balance);
        *balance -= taken;
        payment.taken += taken;
        payment.shortfall += due - taken;
    }

    fn twin_is_live(&self, account: usize, run: usize) -> bool {
        self.runs.iter().any(|(id, other)| *id != run && handle(*id) == handle(run) && other.account == account && other.is_live())
    }

    /// A batch asks for its balance, and whether its name is somebody else's, before it tries its handles; neither look holds a lock, for
    /// neither promises anything. When the credits are spent on the same handle, or the name is taken, in between, the batch has
    /// duplicates, where a later one has too few credits or is refused. Nothing changes anything.
    pub fn may_be_taken_as_duplicate(&self, operation: &Operation, answer: &Answer) -> bool {
        let Operation::Queue { account, run } = *operation else { return false };
        let is_others = self.runs.get(&run).is_some_and(|known| known.account != account);
        *answer == Answer::Batch("duplicates") && self.is_taken(account, run) && (is_others || self.balances[account] < price(run))
    }

    fn is_taken(&self, account: usize, run: usize) -> bool {
        self.runs.contains_key(&run) || self.twin_is_live(account, run)
    }

    fn queue(&mut self, account: usize, run: usize) -> Answer {
        if let Some(known) = self.runs.get(&run).filter(|known| known.queued) {
            return if known.account == account { Answer::Batch("created") } else { Answer::Refused };
        }
        if self.balances[account] < price(run) {
            return Answer::Batch("insufficient");
        }
        if self.is_taken(account, run) {
            return Answer::Batch("duplicates");
        }
        self.runs.insert(run, Run { account, status: "pending", code: None, charged: 0, queued: true });
        Answer::Batch("created")
    }

    fn admit(&mut self, account: usize, id: usize) -> Answer {
        let twin = self.twin_is_live(account, id);
        let known = self.runs.contains_key(&id);
        let run = self.runs.entry(id).or_insert(Run { account, status: "pending", code: None, charged: 0, queued: false });
        if run.account != account {
            return Answer::Refused;
        }
        if run.status == "pending" {
            if !known && twin {
                (run.status, run.code) = ("failed", Some("DUPLICATE_ANALYSIS"));
            } else if self.balances[account] < price(id) {
                (run.status, run.code) = ("failed", Some("INSUFFICIENT_CREDITS"));
            } else {
                (run.status, run.charged) = ("processing", price(id));
                self.balances[account] -= price(id);
            }
        }
        Answer::Run { status: run.status, code: run.code, refunded: 0 }
    }

    /// Ends a live run without a result. Answers what that gave back.
    fn end(&mut self, id: usize, status: &'static str, code: Option<&'static str>) -> i32 {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.is_live()) else { return 0 };
        (run.status, run.code) = (status, code);
        self.balances[run.account] += run.charged;
        run.charged
    }

    fn fail(&mut self, account: usize, id: usize) -> Answer {
        let refunded = match self.runs.get(&id) {
            Some(run) if run.account != account => return Answer::Run { status: "", code: None, refunded: 0 },
            Some(_) => self.end(id, "failed", Some("BROKEN")),
            None => {
                self.runs.insert(id, Run { account, status: "failed", code: Some("BROKEN"), charged: 0, queued: false });
                0
            }
        };
        let run = &self.runs[&id];
        Answer::Run { status: run.status, code: run.code, refunded }
    }

    fn cancel(&mut self, account: usize, id: usize) -> Answer {
        match self.runs.get(&id) {
            Some(run) if run.account != account => return Answer::Run { status: "not_found", code: None, refunded: 0 },
            Some(_) => {
                self.end(id, "cancelled", None);
            }
            None => {
                self.runs.insert(id, Run { account, status: "cancelled", code: None, charged: 0, queued: false });
            }
        }
        let run = &self.runs[&id];
        // A repeat reads the same as the first.
        let refunded = if run.status == "cancelled" { run.charged } else { 0 };
        Answer::Run { status: run.status, code: None, refunded }
    }
}

/// Any operation at all: what is not allowed must be refused.
pub fn operation() -> BoxedStrategy<Operation> {
    let account = 0..ACCOUNTS;
    let run = 0..RUNS;
    prop_oneof![
        2 => (account.clone(), 1..6_i32, 0..KEYS).prop_map(|(account, amount, key)| Operation::Grant { account, amount, key }),
        3 => (account.clone(), 1..30_i32, 0..KEYS).prop_map(|(account, amount, key)| Operation::Chargeback { account, amount, key }),
        2 => (0..SESSIONS, 0..2_usize).prop_map(|(session, event)| Operation::Purchase { session, event }),
        2 => (0..SESSIONS, 1..=PARTS).prop_map(|(session, parts)| Operation::StripeRefund { session, parts }),
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

impl ReferenceStateMachine for Books {
    type State = Self;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::of([SIGNUP; ACCOUNTS])).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Operation> {
        operation()
    }

    fn apply(mut books: Self, operation: &Operation) -> Self {
        books.answer = Some(books.perform(operation));
        books
    }
}
