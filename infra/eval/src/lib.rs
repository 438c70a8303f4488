//! Judges models by the product's own prompts, schemas, client and parser, on invented profiles. See `README.md`.

mod ask;
mod cases;
mod catalogue;
mod claims;
mod gates;
mod measures;
mod preflight;
mod report;
mod stats;

use std::path::Path;

use anyhow::{Result, ensure};
use oslira_domain::Tier;
use oslira_vendors::{Endpoints, ModelClient, ModelSecrets};

pub use gates::{Failure, Gate};
pub use measures::Measures;
pub use preflight::Check;
pub use report::{Report, Row};
pub use stats::Rate;

use crate::ask::{Store, answers, items};
use crate::cases::Cases;
use crate::catalogue::Subject;
use crate::measures::measures;

/// What to judge, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The catalogue to judge, as TOML.
    pub catalogue: String,
    /// A catalogue to compare it with.
    pub against: Option<String>,
    /// The answers to each question about each profile.
    pub samples: u32,
    /// The tiers whose questions are asked.
    pub tiers: Vec<Tier>,
    /// The cost after which no further question starts, in micro-USD. At zero only kept answers are scored.
    pub max_cost: i64,
}

/// Puts all questions to the models, keeps their answers in `file`, and returns the report.
///
/// # Errors
/// Fails if a catalogue is invalid, the file cannot be used, or a provider rejects the requests.
pub async fn evaluate(settings: &Settings, endpoints: &Endpoints, secrets: &ModelSecrets, file: &Path) -> Result<Report> {
    ensure!(settings.samples > 0, "at least one sample is needed");
    let cases = Cases::read()?;
    let mut store = Store::open(file)?;
    let mut report = Report::default();
    let new = ("new", Some(&settings.catalogue));
    let old = ("old", settings.against.as_ref());
    for (label, text) in [new, old] {
        let Some(text) = text else { continue };
        let subject = Subject::read(text)?;
        let client = client(&subject, endpoints, secrets)?;
        let left = settings.max_cost - report.spent;
        if label == "new" && left > 0 {
            let unknown = self::client(&subject.with_unknown_model()?, endpoints, secrets)?;
            for (tier, call) in settings.tiers.iter().flat_map(|tier| tier.calls().iter().map(move |call| (*tier, *call))) {
                let (checks, cost) = preflight::preflight(&client, &unknown, &cases, tier, call).await?;
                report.preflight.extend(checks);
                report.spent += cost;
            }
        }
        if !report.answers_are_of_use() {
            break;
        }
        let items = items(&cases, &subject, &settings.tiers, settings.samples)?;
        let answers = answers(&client, &subject, &items, &mut store, settings.max_cost - report.spent).await?;
        report.spent += answers.spent;
        report.kept += answers.kept;
        report.open += answers.open;
        for tier in &settings.tiers {
            for call in tier.calls() {
                let measures = measures(&cases, *tier, *call, &answers.records);
                report.rows.push(Row { catalogue: label, question: format!("{tier} {call}"), measures });
            }
        }
    }
    report.failures = gates::failures(&report);
    Ok(report)
}

fn client(subject: &Subject, endpoints: &Endpoints, secrets: &ModelSecrets) -> Result<ModelClient> {
    Ok(ModelClient::new(oslira_vendors::http_client()?, endpoints.clone(), secrets.clone(), subject.catalogue()?))
}
