//! The answers of the models: one type and schema for each question, and the report that they form together.
//!
//! A value of these types is valid: scores are 0 to 100, confidence is 0 to 1, texts are not empty. Parsing is the whole validation; the bounds
//! in a model's schema only help it to write a valid answer.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strum::IntoStaticStr;

pub use self::answers::*;
pub use self::values::{Confidence, MAX_ENTRIES, RedFlags, Score, Text, Texts};
pub use self::words::*;
use crate::{Call, Profile, Tier, influence};

mod absence;
mod answers;
mod scale;
mod values;
mod words;

/// Why an answer does not fit its schema. Contains the place, never the text, which may quote a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOutput {
    /// A question of the tier has no answer.
    #[error("the question `{0}` has no answer")]
    Missing(Call),
    /// A field is missing or invalid.
    #[error("the answer to `{call}` does not fit its schema at `{at}`")]
    Broken {
        /// The question.
        call: Call,
        /// The path of the field.
        at: String,
    },
}

/// Returns the schema of the answer to a question: everything inline, every field required, no other field allowed, numbers and lengths bounded.
/// Its title, `<tier>_<question>`, is also the name that vendors require. [`without_bounds`] gives the form for vendors that reject bounds.
///
/// The order of the fields is the order in which a model writes them: evidence, then scores, then the recommendation. A model that writes its
/// verdict first only defends it afterwards.
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
    schema.remove("description");
    let mut schema = Value::from(schema);
    let mut fields: Vec<(String, Value)> =
        schema["properties"].as_object_mut().map(|fields| std::mem::take(fields).into_iter().collect()).unwrap_or_default();
    fields.sort_by_key(|(name, _)| place_in_order(name));
    schema["required"] = fields.iter().map(|(name, _)| name.as_str()).collect();
    schema["properties"] = Value::Object(fields.into_iter().collect());
    if let Some(message) = schema["properties"].get_mut("outreach_message") {
        message["maxLength"] = MAX_MESSAGE.into();
    }
    schema
}

/// Returns where a field stands in the order of an answer. Fields of the same place keep the order of their declaration.
fn place_in_order(field: &str) -> u8 {
    match field {
        "recommended_action" => 6,
        "urgency_level" => 5,
        "confidence_level" | "data_confidence" => 4,
        "overall_score" => 3,
        "budget_tier"
        | "decision_role"
        | "buying_stage"
        | "disc_profile"
        | "communication_style"
        | "content_authenticity"
        | "personality_traits"
        | "decision_making_style" => 2,
        field if field.ends_with("_score") => 2,
        "summary_text" => 1,
        _ => 0,
    }
}

/// The longest text of an answer, in characters.
const MAX_TEXT: u64 = 1500;
/// The longest message to a lead, in characters. The instructions name it, too.
pub const MAX_MESSAGE: usize = 600;
/// The keywords that bound numbers and lengths.
const BOUNDS: [&str; 4] = ["minimum", "maximum", "maxItems", "maxLength"];

fn strict<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    schemars::transform::transform_subschemas(&mut bounded, &mut schema);
    schema
}

/// Removes `format` (int64, double), which is not part of the strict subset, and adds bounds. Every integer of an answer is a [`Score`], every
/// number a [`Confidence`].
fn bounded(schema: &mut Schema) {
    schema.remove("format");
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let bounds: &[(&str, u64)] = match kind.as_str() {
        "integer" => &[("minimum", 0), ("maximum", 100)],
        "number" => &[("minimum", 0), ("maximum", 1)],
        "array" => &[("maxItems", MAX_ENTRIES as u64)],
        "string" if schema.get("enum").is_none() => &[("maxLength", MAX_TEXT)],
        _ => &[],
    };
    for (keyword, bound) in bounds {
        schema.insert((*keyword).to_owned(), Value::from(*bound));
    }
    if let Some(entry) = schema.get_mut("items").and_then(Value::as_object_mut) {
        // The description of the list says what its entries are.
        entry.remove("description");
    }
    schemars::transform::transform_subschemas(&mut bounded, schema);
}

/// Returns the schema without bounds. The descriptions and the prompt name the ranges.
pub fn without_bounds(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| !(BOUNDS.contains(&name.as_str()) && value.is_u64()))
            .map(|(name, value)| (name.clone(), without_bounds(value)))
            .collect(),
        Value::Array(values) => values.iter().map(without_bounds).collect(),
        other => other.clone(),
    }
}

/// Returns the fields of a schema in their order, one a line, with type, range and description: for models that are constrained by a schema
/// without reading it.
pub fn described(schema: &Value) -> String {
    fn lines(schema: &Value, indent: &str, into: &mut String) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let kind = match (field["type"].as_str().unwrap_or_default(), field["enum"].as_array()) {
                (_, Some(words)) => format!("one of {}", words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
                ("integer", _) => format!("integer from {} to {}", field["minimum"], field["maximum"]),
                ("number", _) => format!("number from {} to {}", field["minimum"], field["maximum"]),
                ("array", _) => "list of strings".to_owned(),
                (kind, _) => kind.to_owned(),
            };
            let about = field["description"].as_str().unwrap_or_default();
            into.extend([indent, "- ", name, " (", &kind, "): ", about, "\n"]);
            lines(field, &format!("{indent}  "), into);
        }
    }
    let mut text = String::new();
    lines(schema, "", &mut text);
    text
}

/// Parses the answer to a question and returns it as it is stored: tidied, with exactly the fields of its schema. What has another form and the
/// same meaning is read, such as a score of `"72%"`: the answer is paid for.
///
/// # Errors
/// Fails with [`InvalidOutput::Broken`] and the path of the first invalid field.
pub fn parse(call: Call, tier: Tier, answer: &Value) -> Result<Map<String, Value>, InvalidOutput> {
    let mut answer = answer.clone();
    scale::rescale(&mut answer, &schema(call, tier)).map_err(|at| InvalidOutput::Broken { call, at })?;
    match (call, tier) {
        (Call::Core, Tier::Light) => read::<LightCore>(call, &answer),
        (Call::Core, _) => read::<DeepCore>(call, &answer),
        (Call::Psychographic, _) => read::<Psychographic>(call, &answer),
        (Call::Commercial, _) => read::<Commercial>(call, &answer),
        (Call::Outreach, _) => read::<Outreach>(call, &answer),
        (Call::Personality, _) => read::<Personality>(call, &answer),
    }
}

fn read<T: DeserializeOwned + Serialize>(call: Call, answer: &Value) -> Result<Map<String, Value>, InvalidOutput> {
    let typed: T =
        serde_path_to_error::deserialize(answer).map_err(|error| InvalidOutput::Broken { call, at: error.path().to_string() })?;
    // A struct of numbers, texts and lists always serializes to an object.
    Ok(serde_json::to_value(typed).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default())
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

/// Combines the answers to all questions of `tier`, by the question's name, into one report about `profile`.
///
/// What follows from a rule is not left to the models: the recommendation ([`recommendation`]), the bound of the confidence
/// ([`max_confidence`]) and the warnings.
///
/// # Errors
/// Fails with [`InvalidOutput`] if an answer is missing or does not fit its schema.
pub fn merge(tier: Tier, answers: &BTreeMap<String, Value>, profile: &Profile) -> Result<Report, InvalidOutput> {
    let mut fields = Map::new();
    for call in tier.calls() {
        let answer = answers.get(call.as_str()).ok_or(InvalidOutput::Missing(*call))?;
        fields.extend(parse(*call, tier, answer)?);
    }
    let broken = |_| InvalidOutput::Broken { call: tier.calls()[0], at: "headline".to_owned() };
    let headline: Headline = serde_json::from_value(Value::Object(fields.clone())).map_err(broken)?;
    let warnings = ProfileWarning::of(profile);
    let has_flags = fields.get("red_flags").and_then(Value::as_array).is_some_and(|flags| !flags.is_empty());
    let action = recommendation(headline.overall_score, has_flags || !warnings.is_empty());
    let confidence_level = f64::from(headline.confidence_level).min(max_confidence(tier, profile));
    fields.insert("confidence_level".to_owned(), confidence_level.into());
    fields.insert("recommended_action".to_owned(), Value::from(action.as_str()));
    fields.insert("profile_warnings".to_owned(), warnings.iter().map(|warning| warning.as_str()).collect());
    Ok(Report {
        overall_score: headline.overall_score.into(),
        niche_fit_score: headline.niche_fit_score.into(),
        engagement_score: headline.engagement_score.into(),
        confidence_level,
        summary_text: headline.summary_text,
        fields,
    })
}

/// Returns what to do with a lead: pursue from 70 if nothing speaks against it, maybe from 45, skip below. The instructions name the same rule.
pub fn recommendation(overall: Score, has_red_flags: bool) -> RecommendedAction {
    match i16::from(overall) {
        70.. if !has_red_flags => RecommendedAction::Pursue,
        45.. => RecommendedAction::Maybe,
        _ => RecommendedAction::Skip,
    }
}

/// Returns the highest confidence that the profile's data allow: 0.4 with fewer than three posts, 0.8 without a bio or with fewer than six
/// captions, as the instructions say.
pub fn max_confidence(tier: Tier, profile: &Profile) -> f64 {
    let posts = profile.posts.iter().take(tier.posts());
    let captions = posts.clone().filter(|post| !post.caption.trim().is_empty()).count();
    if posts.count() < 3 {
        0.4
    } else if captions < 6 || profile.bio.trim().is_empty() {
        0.8
    } else {
        1.0
    }
}

/// What a reader of a report should know about the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProfileWarning {
    /// A text of the profile addresses models: it names fields of a report, asks for a score or cancels instructions.
    InfluenceAttempt,
}

impl ProfileWarning {
    /// Returns the warnings about a profile.
    pub fn of(profile: &Profile) -> Vec<Self> {
        if influence::tries_to_influence(profile) { vec![Self::InfluenceAttempt] } else { Vec::new() }
    }

    /// Returns the value in reports.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests;
