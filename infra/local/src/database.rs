//! Prepares the database before the deployment, which applies the migrations, completes it afterwards, and creates accounts in it.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::postgres::{Cluster, DATABASE};
use crate::progress::Progress;

const SUPABASE: &str = include_str!("../supabase.sql");

/// The credits that the signup grants to every new account.
const SIGNUP_CREDITS: u32 = 25;

/// The URLs of the logins.
pub(crate) struct Logins {
    pub(crate) owner: String,
    pub(crate) user: String,
    pub(crate) admin: String,
}

/// An account with a business profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) user_id: Uuid,
    pub(crate) email: String,
    #[serde(rename = "account_id")]
    pub(crate) id: Uuid,
    pub(crate) business_profile_id: Uuid,
}

/// Opens a connection that is driven in the background.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("cannot connect to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// Creates the database in a private cluster if it is missing, and prepares it. Replaces one whose migrations differ from this checkout's.
pub(crate) async fn prepare_in(cluster: &Cluster, progress: Progress) -> Result<Logins> {
    let maintenance = connect(&cluster.url("postgres")).await?;
    let exists = maintenance.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE]).await?.is_some();
    if exists && oslira_db::differs(&connect(&cluster.url(DATABASE)).await?).await? {
        progress.notice("the local database has other migrations than this checkout: starting with an empty one");
        // The first migration creates the roles; an older one may have given them other memberships.
        maintenance.batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)")).await?;
        maintenance.batch_execute("DROP ROLE IF EXISTS oslira_user, oslira_admin, oslira_api").await?;
    }
    if maintenance.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE]).await?.is_none() {
        maintenance.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    }
    prepare(cluster.url(DATABASE)).await
}

/// Gives the database what a Supabase project has before the first deployment, and generates passwords for the logins. The deployment
/// applies the migrations and sets the passwords.
///
/// # Errors
/// Fails for a database on another machine, because `DATABASE_URL` often names a real one; and for one whose migrations differ from this
/// checkout's.
pub(crate) async fn prepare(owner: String) -> Result<Logins> {
    ensure!(is_here(&owner)?, "the local stack uses no database but one on this machine (127.0.0.1, ::1 or localhost)");
    let client = connect(&owner).await?;
    ensure!(
        !oslira_db::differs(&client).await?,
        "the database has other migrations than this checkout (see migrations/README.md): create it anew and start again"
    );
    client.batch_execute(SUPABASE).await.context("infra/local/supabase.sql")?;
    let login = |name| with_login(&owner, name, &crate::random_password());
    Ok(Logins { user: login("oslira_user")?, admin: login("oslira_admin")?, owner })
}

/// Returns whether the URL names this machine only.
fn is_here(url: &str) -> Result<bool> {
    let config: tokio_postgres::Config = url.parse().context("not a URL of PostgreSQL")?;
    let local = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    };
    Ok(!config.get_hosts().is_empty() && config.get_hosts().iter().all(local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback))
}

/// Completes the database once the schema exists. With `real_prices` Stripe is real, and prices that are already set stay.
pub(crate) async fn complete(owner: &str, real_prices: bool) -> Result<()> {
    let client = connect(owner).await?;
    end_orphans(&client).await?;
    // An operator does this once for the prices of a real Stripe account.
    let prices = "UPDATE plans SET stripe_price_id = 'price_' || id WHERE id <> 'free' AND (stripe_price_id IS NULL OR NOT $1)";
    client.execute(prices, &[&real_prices]).await?;
    Ok(())
}

/// Returns the URL with another login.
fn with_login(url: &str, login: &str, password: &str) -> Result<String> {
    let mut url = reqwest::Url::parse(url).context("the database's URL")?;
    if url.set_username(login).and_then(|()| url.set_password(Some(password))).is_err() {
        bail!("the database's URL names no host");
    }
    Ok(url.into())
}

/// Fails and refunds the runs that the last stack left open: their executions ended with its emulator.
async fn end_orphans(client: &Client) -> Result<()> {
    for run in client.query("SELECT run_id FROM analyses WHERE status IN ('pending', 'processing')", &[]).await? {
        client.execute("SELECT fail_run($1, 'INTERNAL_ERROR')", &[&run.get::<_, String>(0)]).await?;
    }
    Ok(())
}

/// Signs a new user up and leaves the account with exactly `credits` credits.
pub(crate) async fn create_account(owner_url: &str, credits: u32) -> Result<Account> {
    let mut client = connect(owner_url).await?;
    let tx = client.transaction().await?;
    let user_id = Uuid::new_v4();
    let email = format!("demo-{}@example.com", &user_id.simple().to_string()[..8]);
    // As Supabase Auth does it: a trigger makes the account within the same transaction. The address is confirmed.
    tx.execute(
        "INSERT INTO auth.users (id, email, email_confirmed_at, raw_user_meta_data) VALUES ($1, $2, now(), $3)",
        &[&user_id, &email, &json!({"full_name": "Demo Person"})],
    )
    .await?;
    let account_id: Uuid = tx.query_one("SELECT id FROM accounts WHERE owner_id = $1", &[&user_id]).await?.get(0);
    let profile = tx
        .query_one(
            "INSERT INTO business_profiles (account_id, business_name, website, business_one_liner, business_context_pack) VALUES ($1, $2, $3, $4, $5) RETURNING id",
            &[&account_id, &"Nordlicht Studio", &"https://nordlicht.example", &"Brand photography for independent outdoor and wellness labels", &business_context()],
        )
        .await?;
    let key = format!("local-{user_id}");
    let difference = i32::try_from(credits.abs_diff(SIGNUP_CREDITS))?;
    if credits > SIGNUP_CREDITS {
        tx.execute("SELECT grant_credits($1, $2, 'admin_grant', $3, 'Local account')", &[&account_id, &difference, &key]).await?;
    } else if credits < SIGNUP_CREDITS {
        tx.execute("SELECT chargeback_credits($1, $2, $3, 'Local account')", &[&account_id, &difference, &key]).await?;
    }
    let balance: i32 = tx.query_one("SELECT current_balance FROM credit_balances WHERE account_id = $1", &[&account_id]).await?.get(0);
    if u32::try_from(balance) != Ok(credits) {
        bail!("the new account has {balance} credits instead of {credits}");
    }
    tx.commit().await?;
    Ok(Account { user_id, email, id: account_id, business_profile_id: profile.get(0) })
}

/// Whether an account of an earlier start still exists.
pub(crate) async fn has_account(owner_url: &str, account: &Account) -> Result<bool> {
    let client = connect(owner_url).await?;
    let found = client
        .query_opt("SELECT 1 FROM business_profiles WHERE id = $1 AND account_id = $2", &[&account.business_profile_id, &account.id])
        .await?;
    Ok(found.is_some())
}

/// Returns the user who owns an account.
pub(crate) async fn owner_of(owner_url: &str, account_id: &str) -> Result<Uuid> {
    let account: Uuid = account_id.parse()?;
    Ok(connect(owner_url).await?.query_one("SELECT owner_id FROM accounts WHERE id = $1", &[&account]).await?.get(0))
}

/// One entry of an account's ledger.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// Credits, negative for a charge.
    pub amount: i32,
    /// The balance after the entry.
    pub balance_after: i32,
    /// Its type, such as `analysis` or `refund`.
    pub transaction_type: String,
    /// What the customer reads.
    pub description: String,
}

/// Returns the ledger of an account, oldest entry first.
///
/// # Errors
/// Fails if the database does not respond or the account is not a UUID.
pub async fn ledger(owner_url: &str, account_id: &str) -> Result<Vec<LedgerEntry>> {
    let client = connect(owner_url).await?;
    let account: Uuid = account_id.parse()?;
    let entries = client
        .query(
            "SELECT amount, balance_after, transaction_type, coalesce(description, '') FROM credit_ledger WHERE account_id = $1 ORDER BY entry_no",
            &[&account],
        )
        .await?;
    let entry = |row: tokio_postgres::Row| LedgerEntry {
        amount: row.get(0),
        balance_after: row.get(1),
        transaction_type: row.get(2),
        description: row.get(3),
    };
    Ok(entries.into_iter().map(entry).collect())
}

/// The runs and ledgers of a whole database.
#[derive(Debug)]
pub struct DatabaseSummary {
    /// Mismatches of ledger and balances.
    pub faults: Vec<String>,
    /// The number of active runs.
    pub live: i64,
    /// The number of runs by status.
    pub runs: Vec<(String, i64)>,
    /// The number of entries.
    pub entries: i64,
}

impl std::fmt::Display for DatabaseSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let runs: Vec<String> = self.runs.iter().map(|(status, count)| format!("{count} {status}")).collect();
        write!(f, "runs: {}; {} entries in the ledger, {} faults", runs.join(", "), self.entries, self.faults.len())
    }
}

/// Summarizes the runs and ledgers of a whole database.
///
/// # Errors
/// Fails if the database does not respond.
pub async fn summary(owner_url: &str) -> Result<DatabaseSummary> {
    let client = connect(owner_url).await?;
    let faults = client.query("SELECT fault || ': ' || subject FROM ledger_faults", &[]).await?;
    let runs = client.query("SELECT status, count(*) FROM analyses GROUP BY status ORDER BY status", &[]).await?;
    let runs: Vec<(String, i64)> = runs.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(DatabaseSummary {
        faults: faults.iter().map(|row| row.get(0)).collect(),
        live: runs.iter().filter(|(status, _)| ["pending", "processing"].contains(&status.as_str())).map(|(_, count)| count).sum(),
        runs,
        entries: client.query_one("SELECT count(*) FROM credit_ledger", &[]).await?.get(0),
    })
}

/// Returns whether the database accepts connections.
pub async fn responds(url: &str) -> bool {
    match connect(url).await {
        Ok(client) => client.batch_execute("SELECT 1").await.is_ok(),
        Err(_) => false,
    }
}

fn business_context() -> Value {
    json!({
        "target_audience": "Founders and marketing leads of outdoor, yoga and natural cosmetics labels with 5 to 50 people",
        "industry": "Commercial photography",
        "offering": "Seasonal brand shoots, product stills and short films, delivered ready for social media",
        "icp_min_followers": 2000,
        "icp_max_followers": 250_000,
        "icp_min_engagement_rate": 1.5,
        "icp_content_themes": ["outdoor", "wellness", "sustainable products", "behind the scenes"],
        "icp_geographic_focus": "Europe",
        "icp_industry_niche": "Outdoor and wellness brands",
        "selling_points": ["fixed price per season", "full usage rights", "two-week delivery"],
        "brand_voice": "warm, concrete, no superlatives",
        "outreach_goals": "A 20 minute call about the next season's pictures"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_on_another_machine_is_rejected() {
        for url in
            ["postgres://me:word@127.0.0.1:5432/x", "postgres://localhost/x", "postgresql://me@[::1]/x", "host=/run/postgresql user=me"]
        {
            assert!(is_here(url).unwrap(), "{url}");
        }
        for url in [
            "postgres://postgres.ref:word@aws-0-eu-west-1.pooler.supabase.com:5432/postgres",
            "postgres://10.0.0.7/x",
            "postgres://localhost,db.example.com/x",
            "host=localhost hostaddr=10.0.0.7 user=me",
            "user=me",
        ] {
            assert!(!is_here(url).unwrap(), "{url}");
        }
        assert!(is_here("mysql://localhost/x").is_err());
    }
}
