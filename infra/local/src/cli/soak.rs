//! `cargo local soak`: puts a long steady load on the running stack while vendors fail and functions are killed. Then checks that ledgers and
//! balances agree, that no function's memory grows, and that no request failed with a 5xx.

mod measures;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use local::{Demo, StackInfo};
use rand::RngExt;
use rand::seq::IndexedRandom;
use reqwest::Method;
use serde_json::{Value, json};

use measures::{Latencies, Memory};

/// The number of concurrent clients. Each uses many accounts in turn, so that the rate limits do not slow it down.
const CLIENTS: usize = 4;
const ACCOUNTS: usize = 12;
const CREDITS: u32 = 5000;

/// The number of requested profiles, of which some are cached, some are in progress and some are new.
const HANDLES: u32 = 400;

/// Functions that are killed. None of them serves a request, so that every 5xx is a defect.
const KILLED: [&str; 7] = ["admit", "fetch", "analyze", "save", "compensate", "bulk_groups", "stripe_events"];
const KILL_EVERY: Duration = Duration::from_secs(20);
const FAIL_EVERY: Duration = Duration::from_secs(5);
const FAULTS: [(&str, &str); 8] = [
    ("apify", "run_failed"),
    ("apify", "disconnect"),
    ("apify", "blocked"),
    ("openai", "disconnect"),
    ("openai", "not_json"),
    ("openai", "truncated_json"),
    ("anthropic", "disconnect"),
    ("anthropic", "empty"),
];

/// The time limit for the end of all runs.
const REST: Duration = Duration::from_mins(5);

struct Load<'a> {
    http: reqwest::Client,
    info: &'a StackInfo,
    latencies: Latencies,
    over: AtomicBool,
    bought: AtomicU64,
}

/// One account of a client.
struct Person<'a> {
    load: &'a Load<'a>,
    demo: &'a Demo,
}

pub(crate) async fn soak(info: &StackInfo, state_dir: &Path, minutes: u64) -> Result<()> {
    let load =
        Load { http: super::http()?, info, latencies: Latencies::default(), over: AtomicBool::new(false), bought: AtomicU64::new(0) };
    let mut accounts = Vec::new();
    for _ in 0..CLIENTS * ACCOUNTS {
        accounts.push(local::create_account(&load.http, info, CREDITS).await?);
    }
    println!(
        "{minutes} minutes, {CLIENTS} clients with {ACCOUNTS} accounts each; a vendor fails every {FAIL_EVERY:?}, a function is killed every {KILL_EVERY:?}"
    );
    let mut memory = Memory::default();
    let clients = futures::future::join_all(accounts.chunks(ACCOUNTS).map(|accounts| load.run_client(accounts)));
    let (_, killed, failed, ()) = tokio::join!(clients, load.kills(state_dir), load.fails(), async {
        for minute in 1..=minutes {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                memory.look(&local::function_processes(state_dir));
            }
            println!("\nminute {minute}\n{}\n{}", load.latencies.take_minute(), memory.now());
        }
        load.over.store(true, Ordering::SeqCst);
    });
    let _ = load.http.delete(format!("{}/_control/faults", info.sandbox)).send().await;

    println!("\nwaiting for the end of every run");
    let rested = Instant::now();
    let summary = loop {
        let summary = local::database_summary(&info.admin_database_url).await?;
        if summary.live == 0 || rested.elapsed() > REST {
            break summary;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    println!("\n{killed} functions killed, {failed} faults of vendors, {} purchases", load.bought.load(Ordering::SeqCst));
    println!("{summary}\n{}\n{}", load.latencies.total(), memory.grown());
    let mut broken = Vec::new();
    broken.extend((summary.live > 0).then(|| format!("{} runs have not ended", summary.live)));
    broken.extend((!summary.faults.is_empty()).then(|| format!("ledger and balances disagree: {:?}", summary.faults)));
    broken.extend(load.latencies.server_errors().first().map(|first| format!("5xx responses, such as {first}")));
    broken.extend(memory.has_grown().then(|| "memory grows".to_owned()));
    if !broken.is_empty() {
        bail!("{}", broken.join("; "));
    }
    println!("ledgers and balances agree, no response was a 5xx, and no memory grows");
    Ok(())
}

impl Load<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Runs random operations one after another, in one account after another.
    async fn run_client(&self, accounts: &[Demo]) {
        for demo in accounts.iter().cycle() {
            if self.is_over() {
                return;
            }
            let person = Person { load: self, demo };
            // Rejections are counted with their request. The next operation runs anyway.
            let _ = match rand::rng().random_range(0..100) {
                0..50 => person.analyses().await,
                50..80 => person.reads().await,
                80..88 => person.buys().await,
                88..92 => person.starts_a_batch().await,
                _ => person.reads_prices().await,
            };
        }
    }

    /// Kills a process of a random function at intervals. Returns the number of killed processes.
    async fn kills(&self, state_dir: &Path) -> usize {
        let mut killed = 0;
        while !self.is_over() {
            tokio::time::sleep(KILL_EVERY).await;
            let mut victims = local::function_processes(state_dir);
            victims.retain(|process| KILLED.contains(&process.binary.as_str()));
            if let Some(victim) = victims.choose(&mut rand::rng()) {
                killed += usize::from(local::kill_function_process(state_dir, victim.id));
            }
        }
        killed
    }

    /// Makes a random vendor fail for one profile at intervals. Returns the number of faults.
    async fn fails(&self) -> usize {
        let mut failed = 0;
        while !self.is_over() {
            tokio::time::sleep(FAIL_EVERY).await;
            let (vendor, kind) = FAULTS[rand::rng().random_range(0..FAULTS.len())];
            let rule = json!({ "vendor": vendor, "match": "soak", "times": 1, "fault": { "kind": kind } });
            let ordered = self.http.post(format!("{}/_control/faults", self.info.sandbox)).json(&rule).send().await;
            failed += usize::from(ordered.is_ok_and(|answer| answer.status().is_success()));
        }
        failed
    }
}

impl Person<'_> {
    /// Runs an analysis to its end. Cancels every sixth one.
    async fn analyses(&self) -> Result<()> {
        let tier = ["light", "light", "deep", "xray"][rand::rng().random_range(0..4)];
        let handle = format!("soak_{}", rand::rng().random_range(0..HANDLES));
        let body = json!({ "username": handle, "businessProfileId": self.demo.business_profile_id, "analysisType": tier });
        let started = self.call("POST analyze", Method::POST, "/api/leads/analyze", Some(&body)).await?;
        let run = started["run_id"].as_str().context("a run id")?;
        let cancelled = rand::rng().random_range(0..6) == 0;
        loop {
            let progress = self.call("GET progress", Method::GET, &format!("/api/analysis/{run}/progress"), None).await?;
            match progress["status"].as_str() {
                Some("completed") => break,
                Some("failed" | "cancelled") => return Ok(()),
                _ if cancelled && progress["progress"].as_i64() > Some(15) => {
                    self.call("POST cancel", Method::POST, &format!("/api/analysis/{run}/cancel"), Some(&json!({}))).await?;
                    return Ok(());
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
        self.call("GET result", Method::GET, &format!("/api/analysis/{run}/result"), None).await.map(drop)
    }

    async fn reads(&self) -> Result<()> {
        let leads = self.call("GET leads", Method::GET, "/api/leads?pageSize=20", None).await?;
        if let Some(lead) = leads.as_array().and_then(|leads| leads.first()).and_then(|lead| lead["lead_id"].as_str()) {
            self.call("GET lead", Method::GET, &format!("/api/leads/{lead}"), None).await?;
            self.call("GET lead analyses", Method::GET, &format!("/api/leads/{lead}/analyses"), None).await?;
        }
        self.call("GET balance", Method::GET, "/api/credits/balance", None).await?;
        self.call("GET transactions", Method::GET, "/api/credits/transactions", None).await?;
        self.call("GET business profiles", Method::GET, "/api/business-profiles", None).await.map(drop)
    }

    /// Buys credits. Stripe delivers the event of the payment twice.
    async fn buys(&self) -> Result<()> {
        let session = self.call("POST purchase", Method::POST, "/api/credits/purchase", Some(&json!({ "amount": 10 }))).await?;
        let session = session["session_id"].as_str().context("a session")?;
        let stripe = format!("{}/_control/stripe", self.load.info.sandbox);
        let pay = self.load.http.post(format!("{stripe}/sessions/{session}/pay")).json(&json!({ "method": "card" }));
        pay.send().await?.error_for_status()?;
        self.load.bought.fetch_add(1, Ordering::SeqCst);
        let events = format!("{stripe}/events?type=checkout.session.completed&object={session}");
        let events: Value = self.load.http.get(events).send().await?.json().await?;
        if let Some(event) = events[0]["id"].as_str() {
            self.load.http.post(format!("{stripe}/events/{event}/deliver")).json(&json!({ "times": 1 })).send().await?;
        }
        Ok(())
    }

    async fn starts_a_batch(&self) -> Result<()> {
        let handles: Vec<String> = (0..5).map(|_| format!("soak_{}", rand::rng().random_range(0..HANDLES))).collect();
        let body = json!({ "usernames": handles, "businessProfileId": self.demo.business_profile_id, "analysisType": "light" });
        let batch = self.call("POST bulk", Method::POST, "/api/leads/analyze/bulk", Some(&body)).await?;
        let batch = batch["batch_id"].as_str().context("a batch")?;
        self.call("GET bulk progress", Method::GET, &format!("/api/leads/analyze/bulk/{batch}/progress"), None).await.map(drop)
    }

    async fn reads_prices(&self) -> Result<()> {
        self.call("GET health", Method::GET, "/health", None).await?;
        self.call("GET pricing", Method::GET, "/api/credits/pricing?amount=100", None).await.map(drop)
    }

    /// Sends a request and records its time under `name`.
    ///
    /// # Errors
    /// Fails on any response but a success.
    async fn call(&self, name: &'static str, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.load.http.request(method, format!("{}{path}", self.load.info.api)).bearer_auth(&self.demo.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let begun = Instant::now();
        let answer = request.send().await;
        let status = answer.as_ref().map_or(599, |answer| answer.status().as_u16());
        self.load.latencies.note(name, begun.elapsed(), status);
        let answer = answer?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status.is_server_error() {
            self.load.latencies.note_server_error(format!("{name}: {status} {text}"));
        }
        let mut body: Value = serde_json::from_str(&text)?;
        if !status.is_success() {
            bail!("{name}: {status}");
        }
        Ok(body["data"].take())
    }
}
