//! What the models answer: one type for each call, its schema, and the report they make together.
//!
//! A value of these types is valid: scores are 0 to 100, confidence 0 to 1, texts not empty. So parsing is the whole
//! validation, and the schema sent to a model needs no bounds (strict schemas of the vendors allow none).

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::answers::*;
use crate::{Call, Tier};

mod answers;

/// Why an answer is not what was asked for. Names the place, never the text: it may quote a stranger's profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOutput {
    /// A call of the tier has no answer.
    #[error("the call `{0}` has no answer")]
    Missing(Call),
    /// A field is missing, unknown, or outside of what it may be.
    #[error("the answer of `{call}` breaks its schema at `{at}`")]
    Broken {
        /// Of which call.
        call: Call,
        /// Where: the fields of the schema down to the fault.
        at: String,
    },
}

/// The schema of a call's answer, within what both vendors' strict modes accept: everything inline, every field required, no
/// other field allowed, no bounds. Its title, `<tier>_<call>`, is also the name that vendors ask for.
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

/// `format` (int64, double) is no part of the strict subset.
fn drop_formats(schema: &mut Schema) {
    schema.remove("format");
    schemars::transform::transform_subschemas(&mut drop_formats, schema);
}

/// Reads the answer of a call and returns it as it is stored: tidied, and proven to have exactly the fields asked for.
///
/// # Errors
/// [`InvalidOutput::Broken`] with the place of the first fault.
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
    // A struct of numbers, texts and lists always serialises, and to an object.
    Ok(serde_json::to_value(typed).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default())
}

/// Where a fault is. An unknown field is not named: its name is the model's, perhaps with a stranger's words in it.
fn place(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    if error.inner().to_string().starts_with("unknown field") { "an unknown field".to_owned() } else { error.path().to_string() }
}

/// What the calls of a tier say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How good a lead it is in all, 0 to 100.
    pub overall_score: i16,
    /// How well it fits the business's niche, 0 to 100.
    pub niche_fit_score: i16,
    /// How engaged its audience is, 0 to 100.
    pub engagement_score: i16,
    /// How sure the judgement is, 0 to 1.
    pub confidence_level: f64,
    /// The lead in some sentences.
    pub summary_text: String,
    /// Every field of the tier, the above among them, in one flat object.
    pub fields: Map<String, Value>,
}

/// The part of the judging call's answer that every tier has.
#[derive(Deserialize)]
struct Headline {
    overall_score: Score,
    niche_fit_score: Score,
    engagement_score: Score,
    confidence_level: Confidence,
    summary_text: String,
}

/// Puts the answers of all calls of `tier`, by the call's word, into one report.
///
/// # Errors
/// [`InvalidOutput`] if a call's answer is missing or not what was asked for.
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
