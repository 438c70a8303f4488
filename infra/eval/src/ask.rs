//! Puts the questions to the models and keeps each answer in a file, so that an interrupted evaluation resumes and a finished one can be
//! scored again without a call.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use oslira_domain::{Call, Tier, assessment};
use oslira_vendors::{ModelClient, ModelError, Next, Question};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cases::{Case, Cases, now};
use crate::catalogue::Subject;

/// Questions that are open at once.
const CONCURRENT: usize = 4;
/// Two attempts of the longest timeout that a catalogue allows, and pauses.
const PATIENCE: Duration = Duration::from_mins(12);
/// The questions that fail in a row before an evaluation ends: the provider is away.
const MAX_UNANSWERED: u32 = 8;

/// An answer as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Identifies model, settings, prompt, schema and sample.
    pub(crate) key: String,
    pub(crate) model: String,
    pub(crate) tier: Tier,
    pub(crate) call: Call,
    pub(crate) profile: String,
    /// `plain`, or `hostile` or `harmless` with the place of the text.
    pub(crate) variant: String,
    pub(crate) sample: u32,
    /// The answer. `None` if the model declined or no answer fit the schema.
    pub(crate) output: Option<Value>,
    /// Why attempts failed, in their order.
    pub(crate) errors: Vec<String>,
    /// What all attempts cost together, in micro-USD. `None` if a cost is unknown.
    pub(crate) cost: Option<i64>,
    /// How long all attempts took.
    pub(crate) duration_ms: i64,
}

/// A question of an evaluation.
pub(crate) struct Item {
    question: Question,
    key: String,
    variant: String,
    sample: u32,
}

/// Whether the answers to a question have an overall score.
pub(crate) const fn is_scored(call: Call) -> bool {
    matches!(call, Call::Core | Call::Psychographic)
}

/// Returns all questions of the tiers: each profile, and for the questions with a score the probed profiles with each text.
pub(crate) fn items(cases: &Cases, subject: &Subject, tiers: &[Tier], samples: u32) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for sample in 0..samples {
        for tier in tiers {
            for call in tier.calls() {
                for case in &cases.profile {
                    items.push(item(cases, subject, (*tier, *call), case, "plain", sample)?);
                    if !is_scored(*call) || !cases.probed.contains(&case.handle) {
                        continue;
                    }
                    for probe in &cases.probe {
                        let place = probe.place.as_str();
                        let steered = [(format!("hostile {place}"), probe.clone()), (format!("harmless {place}"), probe.harmless())];
                        for (variant, probe) in steered {
                            items.push(item(cases, subject, (*tier, *call), &case.with(&probe), &variant, sample)?);
                        }
                    }
                }
            }
        }
    }
    Ok(items)
}

fn item(cases: &Cases, subject: &Subject, (tier, call): (Tier, Call), case: &Case, variant: &str, sample: u32) -> Result<Item> {
    let question = question(cases, case, tier, call)?;
    let mut hash = Sha256::new();
    let (settings, schema) = (subject.settings(tier, call), assessment::schema(call, tier).to_string());
    let parts = [&question.prompt.instructions, &question.prompt.business, &question.prompt.profile, &schema, &settings];
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let key = format!("{}-{variant}-{sample}", hex::encode(hash.finalize()));
    Ok(Item { question, key, variant: variant.to_owned(), sample })
}

/// Returns the question about a profile as the product asks it.
pub(crate) fn question(cases: &Cases, case: &Case, tier: Tier, call: Call) -> Result<Question> {
    let profile = case.profile()?;
    Ok(Question::new(call, tier, cases.business(case)?, &profile, now(), format!("eval-{}", case.business), "eval".to_owned()))
}

/// The file of the answers.
pub(crate) struct Store {
    file: File,
    records: BTreeMap<String, Record>,
}

impl Store {
    /// Opens the file, or creates it. A line that was not written to its end is ignored.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let at = || format!("cannot use {}", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(at)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).with_context(at)?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).with_context(at)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").with_context(at)?;
        }
        let records = text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(|record: Record| (record.key.clone(), record));
        Ok(Self { records: records.collect(), file })
    }

    fn add(&mut self, record: Record) -> Result<()> {
        let line = serde_json::to_string(&record)? + "\n";
        self.file.write_all(line.as_bytes()).context("an answer could not be written")?;
        self.records.insert(record.key.clone(), record);
        Ok(())
    }
}

/// The answers to the questions.
pub(crate) struct Answers {
    pub(crate) records: Vec<Record>,
    /// Questions without an answer: the provider was away, or the budget was used up.
    pub(crate) open: u32,
    /// How many answers come from the file.
    pub(crate) kept: u32,
    /// What the calls of this evaluation cost, in micro-USD.
    pub(crate) spent: i64,
}

/// Returns the answers to `items`, from the file where it has them. No question starts once `max_cost` micro-USD are spent.
///
/// # Errors
/// Fails if answers cannot be written, or the provider rejects the requests.
pub(crate) async fn answers(client: &ModelClient, subject: &Subject, items: &[Item], store: &mut Store, max_cost: i64) -> Result<Answers> {
    let (known, open): (Vec<&Item>, Vec<&Item>) = items.iter().partition(|item| store.records.contains_key(&item.key));
    let (mut spent, mut unanswered) = (0_i64, 0_u32);
    let mut open = open.into_iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < CONCURRENT && spent < max_cost && unanswered < MAX_UNANSWERED {
            let Some(item) = open.next() else { break };
            running.push(ask(client, subject, item));
        }
        let Some((record, cost, failure)) = running.next().await else { break };
        spent = spent.saturating_add(cost);
        match failure {
            Some(ModelError::Rejected) => bail!("the provider rejects the requests: {}", record.errors.join("; ")),
            Some(_) => unanswered += 1,
            None => {
                unanswered = 0;
                store.add(record)?;
            }
        }
    }
    let records: Vec<Record> = items.iter().filter_map(|item| store.records.get(&item.key)).cloned().collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Answers { open: count(items.len() - records.len()), kept: count(known.len()), records, spent })
}

/// Puts one question. Returns its record, its cost, and the error if the question has no answer that says something about the model.
async fn ask(client: &ModelClient, subject: &Subject, item: &Item) -> (Record, i64, Option<ModelError>) {
    let mut attempts = Vec::new();
    let record = async |attempt| {
        attempts.push(attempt);
        Next::Continue
    };
    let result = client.answer(&item.question, Instant::now() + PATIENCE, record).await;
    let (output, failure) = match result {
        Ok(answer) => {
            attempts.push(answer.attempt);
            (Some(answer.output), None)
        }
        Err(ModelError::InvalidOutput | ModelError::Declined) => (None, None),
        Err(error) => (None, Some(error)),
    };
    let costs = attempts.iter().map(|attempt| attempt.cost.map(|cost| cost.0));
    let known: i64 = costs.clone().flatten().sum();
    let record = Record {
        key: item.key.clone(),
        model: subject.model(item.question.tier, item.question.call),
        tier: item.question.tier,
        call: item.question.call,
        profile: item.question.lead.to_string(),
        variant: item.variant.clone(),
        sample: item.sample,
        output,
        errors: attempts.iter().filter_map(|attempt| attempt.error.clone()).collect(),
        cost: costs.sum(),
        duration_ms: attempts.iter().map(|attempt| attempt.duration_ms).sum(),
    };
    (record, known, failure)
}
