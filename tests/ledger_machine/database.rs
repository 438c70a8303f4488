//! Executes the operations in PostgreSQL, in the roles that execute them in production.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::model::{ACCOUNTS, DISPUTED, Model, Operation, Outcome, PARTS, RUNS, SIGNUP, STATES, buyer, credits_sold, handle, tier};
use crate::harness::{Value, connect, json};

/// The owner of one of the accounts.
#[derive(Clone)]
pub struct Person {
    user: Uuid,
    account: Uuid,
    profile: Uuid,
}

/// The accounts of a case, and the database's ids for its numbers.
#[derive(Clone)]
pub struct Names {
    people: Vec<Person>,
    runs: Vec<String>,
    /// Distinguishes this case's handles, keys and events from every other case's.
    case: String,
}

impl Names {
    /// Creates new accounts, with the credits of a signup.
    pub async fn sign_up(owner: &Client) -> Self {
        let mut people = Vec::new();
        for _ in 0..ACCOUNTS {
            let user = Uuid::now_v7();
            let email = format!("{}@example.com", user.simple());
            owner.execute("INSERT INTO auth.users (id, email, email_confirmed_at) VALUES ($1, $2, now())", &[&user, &email]).await.unwrap();
            let sql = "INSERT INTO business_profiles (account_id, business_name, business_one_liner)
                       SELECT id, 'Studio', 'Photography' FROM accounts WHERE owner_id = $1 RETURNING account_id, id";
            let row = owner.query_one(sql, &[&user]).await.unwrap();
            people.push(Person { user, account: row.get(0), profile: row.get(1) });
        }
        Self::fresh(people)
    }

    /// Returns the same accounts with new runs, handles, keys and events.
    pub fn another_case(&self) -> Self {
        Self::fresh(self.people.clone())
    }

    fn fresh(people: Vec<Person>) -> Self {
        let runs = (0..RUNS).map(|_| format!("run_{}", Uuid::now_v7().simple())).collect();
        Self { people, runs, case: Uuid::new_v4().simple().to_string()[..12].to_owned() }
    }

    fn handle(&self, run: usize) -> String {
        format!("h{}_{}", self.case, handle(run))
    }

    /// Returns a run's input, as the endpoint creates it.
    fn input(&self, account: usize, run: usize) -> Value {
        let person = &self.people[account];
        json!({
            "run_id": self.runs[run], "account_id": person.account, "business_profile_id": person.profile, "requested_by": person.user,
            "username": self.handle(run), "tier": tier(run), "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        })
    }
}

/// Two connections: one in the role of the tasks, one in the role of the API.
pub struct Sessions {
    tasks: Client,
    users: Client,
}

impl Sessions {
    pub async fn open(url: &str) -> Self {
        let (tasks, users) = (connect(url).await.unwrap(), connect(url).await.unwrap());
        tasks.batch_execute("SET ROLE service_role").await.unwrap();
        users.batch_execute("SET ROLE oslira_api").await.unwrap();
        Self { tasks, users }
    }

    /// Executes an operation.
    pub async fn execute(&self, names: &Names, operation: &Operation) -> Outcome {
        let account = |account: usize| &names.people[account].account;
        match *operation {
            Operation::Grant { account: of, amount, key } => {
                let sql = "SELECT to_jsonb(granted) FROM grant_credits($1, $2, 'admin_grant', $3)";
                first(self.task(sql, &[account(of), &amount, &format!("key-{}-{key}", names.case)]).await, Value::as_bool)
            }
            Operation::Chargeback { account: of, amount, key } => {
                let sql = "SELECT to_jsonb(chargeback_credits($1, $2, $3))";
                credits(self.task(sql, &[account(of), &amount, &format!("key-{}-{key}", names.case)]).await)
            }
            Operation::Purchase { session, event } => {
                let (sold, id) = (credits_sold(session), format!("{}-{session}", names.case));
                let effect = json!({
                    "kind": "payment", "session_id": format!("cs_{id}"), "payment_intent": format!("pi_{id}"),
                    "account_id": account(buyer(session)), "credits": sold, "amount_cents": sold * 100, "currency": "usd", "priced_in": "usd",
                    "customer": null,
                });
                self.stripe("checkout.session.completed", &format!("evt_{id}_{event}"), effect).await
            }
            Operation::StripeRefund { session, parts } => {
                let id = format!("{}-{session}", names.case);
                let effect = json!({
                    "kind": "reversal", "source": format!("pi_{id}"), "payment": format!("pi_{id}"), "currency": "usd", "change": "refunded",
                    "total_cents": credits_sold(session) * 100 * parts / PARTS, "step_cents": null,
                });
                self.stripe("charge.refunded", &format!("evt_{id}_refund_{parts}"), effect).await
            }
            Operation::RefundFailed { session, refund } => {
                let id = format!("{}-{session}", names.case);
                let effect = json!({
                    "kind": "reversal", "source": format!("pi_{id}"), "payment": format!("pi_{id}"), "currency": "usd", "change": "refund",
                    "refund_id": format!("re_{id}_{refund}"), "cents": credits_sold(session) * 100 / PARTS, "failed": true,
                });
                self.stripe("refund.failed", &format!("evt_{id}_failure_{refund}"), effect).await
            }
            Operation::Dispute { session, state } => {
                let id = format!("{}-{session}", names.case);
                let effect = json!({
                    "kind": "reversal", "source": format!("pi_{id}"), "payment": format!("pi_{id}"), "currency": "usd", "change": "dispute",
                    "dispute_id": format!("du_{id}"), "cents": credits_sold(session) * 100 * DISPUTED / PARTS, "state": STATES[state],
                });
                self.stripe("charge.dispute.updated", &format!("evt_{id}_dispute_{state}"), effect).await
            }
            Operation::Queue { account: of, run } => {
                let batch = names.runs[run].replace("run_", "batch_");
                let runs = json!([{ "run_id": names.runs[run], "username": names.handle(run) }]);
                let sql = "SELECT create_bulk_analyses($1, $2, $3, $4, $5)";
                let person = &names.people[of];
                match self.user(person, sql, &[&person.account, &person.profile, &tier(run), &batch, &runs]).await {
                    None => Outcome::Rejected,
                    Some(value) => Outcome::Batch(known(value["outcome"].as_str())),
                }
            }
            Operation::Admit { account: of, run } => {
                let outcome = self.task("SELECT admit_analysis($1, $2)", &[&names.runs[run], &names.input(of, run)]).await;
                self.run(outcome, "outcome")
            }
            Operation::Complete { run } => {
                let report = json!({
                    "fields": {}, "overall_score": 50, "niche_fit_score": 50, "engagement_score": 50, "confidence_level": 0.5,
                    "summary_text": "",
                });
                let profile =
                    json!({ "display_name": "Test Profile", "is_verified": false, "is_private": false, "is_business_account": false });
                let sql = "SELECT complete_analysis($1, $2, $3, '{}', false, '[]')";
                self.run(self.task(sql, &[&names.runs[run], &profile, &report]).await, "status")
            }
            Operation::Fail { account: of, run } => {
                let sql = "SELECT fail_run($1, 'BROKEN', NULL, '[]', $2)";
                self.run(self.task(sql, &[&names.runs[run], &names.input(of, run)]).await, "status")
            }
            Operation::Cancel { account: of, run } => {
                let sql = "SELECT cancel_analysis($1, $2)";
                let outcome = self.user(&names.people[of], sql, &[&names.runs[run], &names.input(of, run)]).await;
                self.run(outcome, "outcome")
            }
            Operation::RefundAlone { run } => credits(self.task("SELECT to_jsonb(refund_run($1))", &[&names.runs[run]]).await),
            Operation::ChargeAlone { account: of, run, amount } => {
                let sql = "SELECT to_jsonb(transaction_id::text) FROM deduct_credits_atomic($1, $2, $3)";
                let Some(entry) = self.task(sql, &[account(of), &amount, &names.runs[run]]).await else { return Outcome::Rejected };
                // A second statement: the entry may be another session's, which the snapshot of the first statement does not contain.
                let sql = "SELECT to_jsonb(-amount) FROM credit_ledger WHERE id = ($1::jsonb #>> '{}')::uuid";
                credits(self.task(sql, &[&entry]).await)
            }
        }
    }

    async fn stripe(&self, kind: &str, id: &str, effect: Value) -> Outcome {
        let event = json!({ "event_id": id, "event_type": kind, "created": 1_780_000_000, "api_version": "2026-01-01", "effect": effect });
        first(self.task("SELECT apply_stripe_event($1)", &[&event]).await, |value| match value["outcome"].as_str() {
            Some("applied") => Some(true),
            Some("duplicate") => Some(false),
            _ => None,
        })
    }

    fn run(&self, outcome: Option<Value>, status: &str) -> Outcome {
        let Some(outcome) = outcome else { return Outcome::Rejected };
        let status = match outcome[status].as_str() {
            Some("admitted") => "processing",
            other => known(other),
        };
        let refunded = i32::try_from(outcome["credits_refunded"].as_i64().unwrap_or(0)).unwrap();
        Outcome::Run { status, code: outcome["error_code"].as_str().map(|code| known(Some(code))), refunded }
    }

    async fn task(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Option<Value> {
        value(self.tasks.query_one(sql, params).await, sql)
    }

    /// Executes a statement with the caller's claims, as the API does.
    async fn user(&self, person: &Person, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Option<Value> {
        let claims = format!(r#"{{"sub":"{}","role":"authenticated"}}"#, person.user);
        self.users.execute("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
        value(self.users.query_one(sql, params).await, sql)
    }
}

/// Rejections are our own errors and violated constraints. Any other error, a deadlock above all, is a defect of the ledger.
fn value(row: Result<tokio_postgres::Row, tokio_postgres::Error>, sql: &str) -> Option<Value> {
    match row {
        Ok(row) => Some(row.get(0)),
        Err(error) => {
            let code = error.as_db_error().map(|error| error.code().code().to_owned()).unwrap_or_default();
            assert!(code.starts_with("OS4") || code.starts_with("23"), "{sql}: {error:?}");
            None
        }
    }
}

fn first(value: Option<Value>, read: impl Fn(&Value) -> Option<bool>) -> Outcome {
    value.map_or(Outcome::Rejected, |value| Outcome::First(read(&value).unwrap_or_else(|| panic!("{value}"))))
}

fn credits(value: Option<Value>) -> Outcome {
    value.map_or(Outcome::Rejected, |value| Outcome::Credits(i32::try_from(value.as_i64().unwrap()).unwrap()))
}

/// Returns the model's constant for a string of the database's.
fn known(word: Option<&str>) -> &'static str {
    const KNOWN: [&str; 15] = [
        "pending",
        "processing",
        "completed",
        "failed",
        "cancelled",
        "not_found",
        "created",
        "insufficient",
        "duplicates",
        "BROKEN",
        "DUPLICATE_ANALYSIS",
        "INSUFFICIENT_CREDITS",
        "SPENDING_SUSPENDED",
        "suspended",
        "",
    ];
    let word = word.unwrap_or_default();
    KNOWN.into_iter().find(|known| *known == word).unwrap_or_else(|| panic!("an outcome that the model does not know: {word}"))
}

/// The observable state of a case: balances, shortfalls, disputes, runs by their number, and faults of the ledger.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub balances: [i32; ACCOUNTS],
    pub shortfalls: [i32; ACCOUNTS],
    pub suspended: [bool; ACCOUNTS],
    pub runs: BTreeMap<usize, (usize, String, Option<String>, i32)>,
    pub faults: Vec<String>,
}

impl State {
    pub async fn of(owner: &Client, names: &Names) -> Self {
        let sql = "SELECT ARRAY(SELECT b.current_balance FROM unnest($1::uuid[]) WITH ORDINALITY a (id, n) JOIN credit_balances b ON b.account_id = a.id ORDER BY n),
            coalesce((SELECT jsonb_agg(jsonb_build_array(r.n - 1, array_position($1::uuid[], a.account_id) - 1, a.status, a.error_code,
                          coalesce((SELECT -sum(amount) FROM credit_ledger l WHERE l.run_id = a.run_id AND amount < 0), 0)))
                      FROM unnest($2::text[]) WITH ORDINALITY r (id, n) JOIN analyses a ON a.run_id = r.id), '[]'),
            ARRAY(SELECT fault || ': ' || subject FROM ledger_faults),
            ARRAY(SELECT b.open_shortfall FROM unnest($1::uuid[]) WITH ORDINALITY a (id, n) JOIN credit_balances b ON b.account_id = a.id ORDER BY n),
            ARRAY(SELECT b.disputed_since IS NOT NULL FROM unnest($1::uuid[]) WITH ORDINALITY a (id, n) JOIN credit_balances b ON b.account_id = a.id ORDER BY n)";
        let accounts: Vec<Uuid> = names.people.iter().map(|person| person.account).collect();
        let row = owner.query_one(sql, &[&accounts, &names.runs]).await.unwrap();
        let runs: Vec<(usize, usize, String, Option<String>, i32)> = serde_json::from_value(row.get(1)).unwrap();
        Self {
            balances: row.get::<_, Vec<i32>>(0).try_into().unwrap(),
            shortfalls: row.get::<_, Vec<i32>>(3).try_into().unwrap(),
            suspended: row.get::<_, Vec<bool>>(4).try_into().unwrap(),
            runs: runs.into_iter().map(|(run, account, status, code, charged)| (run, (account, status, code, charged))).collect(),
            faults: row.get(2),
        }
    }

    /// Returns the state that the model expects.
    pub fn expected(model: &Model) -> Self {
        let runs =
            model.runs.iter().map(|(id, run)| (*id, (run.account, run.status.to_owned(), run.code.map(ToOwned::to_owned), run.charged)));
        let suspended = std::array::from_fn(|account| model.is_suspended(account));
        Self { balances: model.balances, shortfalls: model.shortfalls, suspended, runs: runs.collect(), faults: Vec::new() }
    }
}

/// Every account's balance at the start.
pub const OPENING: [i32; ACCOUNTS] = [SIGNUP; ACCOUNTS];
