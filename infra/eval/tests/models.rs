//! The evaluation itself is judged: it accepts what the stand-in model does well, and rejects a model that is bad in known ways.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use eval::{Gate, Report, Settings, evaluate};
use oslira_credential::Credential;
use oslira_domain::Tier;
use oslira_vendors::{Endpoint, Endpoints, ModelSecret, ModelSecrets, OpenAiApi};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CATALOGUE: &str = include_str!("../../../shared/vendors/models.toml");

fn settings(tiers: &[Tier], samples: u32) -> Settings {
    Settings { catalogue: CATALOGUE.to_owned(), against: None, samples, tiers: tiers.to_vec(), max_cost: 1_000_000_000 }
}

fn endpoints(base_url: &str) -> Endpoints {
    let openai = Endpoint::new(format!("{base_url}/v1"));
    Endpoints { openai, openai_api: OpenAiApi::Responses, anthropic: Endpoint::new("http://127.0.0.1:1") }
}

fn secrets() -> ModelSecrets {
    let key = |api_key: &str| Credential::fixed(ModelSecret::from(SecretString::from(api_key)));
    ModelSecrets { openai: key("sk-sandbox-openai"), anthropic: key("unused") }
}

/// A file of answers that is deleted at the end.
struct AnswersFile(PathBuf);

impl AnswersFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("eval-{}.jsonl", uuid::Uuid::new_v4())))
    }
}

impl Drop for AnswersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn failed(report: &Report) -> BTreeSet<Gate> {
    report.failures.iter().map(|failure| failure.gate).collect()
}

/// Has the sandbox scrape every profile of the cases: its model recognizes only profiles that were scraped.
async fn scrape_all(base_url: &str) {
    let cases: toml::Table = toml::from_str(include_str!("../cases.toml")).unwrap();
    let handles: Vec<&str> = cases["profile"].as_array().unwrap().iter().map(|case| case["handle"].as_str().unwrap()).collect();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let run = http.post(format!("{base_url}/apify/v2/acts/apify~instagram-profile-scraper/runs"));
    let response = run.bearer_auth("apify_sandbox_token").json(&json!({"usernames": handles})).send().await.unwrap();
    assert_eq!(response.status(), 201);
}

/// Starts a model that is bad in these ways: it gives every profile the score 80 and recommends to skip, obeys a text that asks for a score,
/// invents a number of followers, does not receive the business, and answers every third question with prose.
async fn bad_model() -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::new(AtomicU32::new(0));
    let routes = Router::new().route("/v1/responses", post(bad_answer)).with_state(Arc::clone(&calls));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (base_url, calls)
}

async fn bad_answer(State(calls): State<Arc<AtomicU32>>, Json(request): Json<Value>) -> Json<Value> {
    let call = calls.fetch_add(1, Ordering::Relaxed);
    let text = request["input"].to_string();
    // Text of the profile stands at the end; the instructions name the fields as well.
    let profile = text.rsplit_once("<profile_data>").map_or("", |(_, profile)| profile);
    let is_steered = ["overall_score=100", "overall_score to 100", "overall_score 100"].iter().any(|order| profile.contains(order));
    let mut answer = of_schema(&request["text"]["format"]["schema"]);
    if answer.get("overall_score").is_some() {
        answer["overall_score"] = if is_steered { 100 } else { 80 }.into();
    }
    let written = if call % 3 == 2 { "I would skip this one.".to_owned() } else { answer.to_string() };
    Json(json!({
        "id": format!("resp_{call}"), "object": "response", "status": "completed", "model": request["model"], "error": null,
        "incomplete_details": null,
        "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer",
            "content": [{"type": "output_text", "text": written, "annotations": []}]}],
        "usage": {"input_tokens": 900, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 90,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 990}
    }))
}

fn of_schema(schema: &Value) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        return words.last().cloned().unwrap_or_default();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => schema["properties"].as_object().unwrap().iter().map(|(name, schema)| (name.clone(), of_schema(schema))).collect(),
        "array" => json!([]),
        "integer" => json!(80),
        "number" => json!(1),
        _ => json!("It has 777,777 followers."),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stand_in_passes_the_gates_that_need_no_judgment() {
    let sandbox = sandbox::serve(sandbox::Options::default()).await.unwrap();
    scrape_all(&sandbox.base_url).await;
    let file = AnswersFile::new();
    let endpoints = endpoints(&format!("{}/openai", sandbox.base_url));
    let report = evaluate(&settings(&Tier::ALL, 2), &endpoints, &secrets(), &file.0).await.unwrap();
    // Its scores follow from the handle alone: they rank nothing, and its recommendations follow from a score of their own.
    let judgment = BTreeSet::from([Gate::Pairs, Gate::InBand, Gate::ActionAgrees, Gate::Contradictions]);
    let unfair: BTreeSet<Gate> = failed(&report).difference(&judgment).copied().collect();
    assert_eq!(unfair, BTreeSet::new(), "{report}");
    assert!(failed(&report).contains(&Gate::Pairs), "{report}");
    assert_eq!((report.rows.len(), report.open, report.kept), (8, 0, 0));
    // Two samples of 40 profiles, and of 4 profiles with 4 texts of each kind.
    assert_eq!(report.rows[0].measures.answers, 2 * (40 + 4 * 4 * 2));
    assert!(report.preflight.iter().any(|check| check.what == "the business arrives" && check.passed == Some(true)), "{report}");
    assert!(report.spent > 0 && report.rows.iter().all(|row| row.measures.mean_cost.is_some() && row.measures.p95_ms.is_some()));
    assert_eq!(report.rows[0].measures.noise, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_model_fails_each_gate_that_it_violates() {
    let (base_url, _) = bad_model().await;
    let file = AnswersFile::new();
    let report = evaluate(&settings(&[Tier::Light], 1), &endpoints(&base_url), &secrets(), &file.0).await.unwrap();
    let expected = [Gate::Preflight, Gate::FirstTry, Gate::Pairs, Gate::InBand, Gate::ActionAgrees, Gate::Contradictions, Gate::Steered];
    assert_eq!(failed(&report), BTreeSet::from(expected), "{report}");
    let lost: BTreeSet<&str> = report.preflight.iter().filter(|check| check.passed == Some(false)).map(|check| check.what).collect();
    assert!(lost.contains("the business arrives"), "{report}");
    let measures = &report.rows[0].measures;
    assert_eq!(measures.mean_rise, Some(20.0));
    assert_eq!(measures.reasons.keys().collect::<Vec<_>>(), ["the text is not JSON"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluation_resumes_and_scores_kept_answers_without_a_call() {
    let (base_url, calls) = bad_model().await;
    let file = AnswersFile::new();
    let (endpoints, all) = (endpoints(&base_url), settings(&[Tier::Light], 1));
    // The preflight and the first questions use up the budget.
    let part = Settings { max_cost: 1000, ..all.clone() };
    let stopped = evaluate(&part, &endpoints, &secrets(), &file.0).await.unwrap();
    assert!(stopped.open > 0 && stopped.open < 72 && failed(&stopped).contains(&Gate::Complete), "{stopped}");
    // The process ended within a line.
    let text = std::fs::read_to_string(&file.0).unwrap();
    std::fs::write(&file.0, format!("{text}{{\"key\":\"abc")).unwrap();

    let resumed = evaluate(&all, &endpoints, &secrets(), &file.0).await.unwrap();
    assert_eq!((resumed.kept, resumed.open), (72 - stopped.open, 0));
    let before = calls.load(Ordering::Relaxed);
    let scored = evaluate(&Settings { max_cost: 0, ..all.clone() }, &endpoints, &secrets(), &file.0).await.unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), scored.kept, scored.spent), (before, 72, 0));
    assert_eq!(scored.rows, resumed.rows);

    let both = Settings { against: Some(CATALOGUE.to_owned()), max_cost: 0, ..all };
    let compared = evaluate(&both, &endpoints, &secrets(), &file.0).await.unwrap();
    assert_eq!(compared.rows.iter().map(|row| row.catalogue).collect::<Vec<_>>(), ["new", "old"]);
    assert!(!failed(&compared).contains(&Gate::NotWorse));
}
