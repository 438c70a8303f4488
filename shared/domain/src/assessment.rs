//! The answers of the models: one type and schema for each question, and the report that they form together.
//!
//! A value of these types is valid: scores are 0 to 100, confidence is 0 to 1, texts are not empty. Parsing is the whole validation, so that
//! the schema for a model needs no bounds, which the vendors' strict schemas do not allow.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::answers::*;
use crate::{Call, Tier};

mod answers;

/// Why an answer does not fit its schema. Contains the place, never the text, which may quote a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOutput {
    /// A question of the tier has no answer.
    #[error("the question `{0}` has no answer")]
    Missing(Call),
    /// A field is missing, unknown or invalid.
    #[error("the answer to `{call}` does not fit its schema at `{at}`")]
    Broken {
        /// The question.
        call: Call,
        /// The path of the field.
        at: String,
    },
}

/// Returns the schema of the answer to a question, as far as both vendors' strict modes accept it: everything inline, every field required,
/// no other field allowed, no bounds. Its title, `<tier>_<question>`, is also the name that vendors require.
pub fn schema(call: Call, tier: Tier) -> Value {
    let mut schema = match (call, tier) {
        (Call::Core, Tier::Light) => strict::<LightCore>(),
        (Call::Core, _) => strict::<DeepCore>(),
        (Call::Psychographic, _) => strict::<Psychographic>(),
        (Call::Commercial, _) => strict::<Commercial>(),
        (Call::Outreach, _) => strict::<Outreach>(),
        (Call::Personality, _) => strict::<Personality>(),
    };
    schema.insert("title".to_owned(), Value::from(format!("{tier}_{call}")));
    schema.into()
}

fn strict<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    schemars::transform::transform_subschemas(&mut drop_formats, &mut schema);
    schema
}

/// `format` (int64, double) is not part of the strict subset.
fn drop_formats(schema: &mut Schema) {
    schema.remove("format");
    schemars::transform::transform_subschemas(&mut drop_formats, schema);
}

/// Parses the answer to a question and returns it as it is stored: tidied, with exactly the fields of its schema.
///
/// # Errors
/// Fails with [`InvalidOutput::Broken`] and the path of the first invalid field.
pub fn parse(call: Call, tier: Tier, answer: &Value) -> Result<Map<String, Value>, InvalidOutput> {
    match (call, tier) {
        (Call::Core, Tier::Light) => read::<LightCore>(call, answer),
        (Call::Core, _) => read::<DeepCore>(call, answer),
        (Call::Psychographic, _) => read::<Psychographic>(call, answer),
        (Call::Commercial, _) => read::<Commercial>(call, answer),
        (Call::Outreach, _) => read::<Outreach>(call, answer),
        (Call::Personality, _) => read::<Personality>(call, answer),
    }
}

fn read<T: DeserializeOwned + Serialize>(call: Call, answer: &Value) -> Result<Map<String, Value>, InvalidOutput> {
    let typed: T = serde_path_to_error::deserialize(answer).map_err(|error| InvalidOutput::Broken { call, at: place(&error) })?;
    // A struct of numbers, texts and lists always serializes to an object.
    Ok(serde_json::to_value(typed).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default())
}

/// Returns the path of an invalid field. An unknown field is not named: the model chose its name, perhaps from the profile's text.
fn place(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    if error.inner().to_string().starts_with("unknown field") { "an unknown field".to_owned() } else { error.path().to_string() }
}

/// The report of a tier's answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The overall score, 0 to 100.
    pub overall_score: i16,
    /// The fit with the business's niche, 0 to 100.
    pub niche_fit_score: i16,
    /// The engagement of the audience, 0 to 100.
    pub engagement_score: i16,
    /// The confidence of the assessment, 0 to 1.
    pub confidence_level: f64,
    /// A summary in a few sentences.
    pub summary_text: String,
    /// Every field of the tier, including those above, in one flat object.
    pub fields: Map<String, Value>,
}

/// The part of the scoring answer that every tier has.
#[derive(Deserialize)]
struct Headline {
    overall_score: Score,
    niche_fit_score: Score,
    engagement_score: Score,
    confidence_level: Confidence,
    summary_text: String,
}

/// Combines the answers to all questions of `tier`, by the question's name, into one report.
///
/// # Errors
/// Fails with [`InvalidOutput`] if an answer is missing or does not fit its schema.
pub fn merge(tier: Tier, answers: &BTreeMap<String, Value>) -> Result<Report, InvalidOutput> {
    let mut fields = Map::new();
    for call in tier.calls() {
        let answer = answers.get(call.as_str()).ok_or(InvalidOutput::Missing(*call))?;
        fields.extend(parse(*call, tier, answer)?);
    }
    let broken = |_| InvalidOutput::Broken { call: tier.calls()[0], at: "headline".to_owned() };
    let headline: Headline = serde_json::from_value(Value::Object(fields.clone())).map_err(broken)?;
    Ok(Report {
        overall_score: headline.overall_score.into(),
        niche_fit_score: headline.niche_fit_score.into(),
        engagement_score: headline.engagement_score.into(),
        confidence_level: headline.confidence_level.into(),
        summary_text: headline.summary_text,
        fields,
    })
}

#[cfg(test)]
mod tests;
