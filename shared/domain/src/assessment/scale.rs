//! Scores on another scale than the one that was asked for.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::values::Quantity;

/// Converts scores from 0 to 1, and refuses those that seem to be from 0 to 10, with the path of the first one.
///
/// The scores of an object are looked at together. Scores are whole numbers: where at least two have a fraction and none is above 1, all are parts
/// of one, because no model distinguishes 0.72 of 100 from 0.8. One fraction alone may be anything, such as a rate, and is refused by
/// [`super::Score`]. Scores up to 10 with a fraction are as likely grades as low scores: the model is asked again.
pub(super) fn rescale(answer: &mut Value, schema: &Value) -> Result<(), String> {
    let (Some(fields), Some(properties)) = (answer.as_object_mut(), schema["properties"].as_object()) else { return Ok(()) };
    for (name, schema) in properties {
        if let Some(inner) = fields.get_mut(name) {
            rescale(inner, schema).map_err(|at| format!("{name}.{at}"))?;
        }
    }
    let names: Vec<&String> = properties.iter().filter(|(_, schema)| schema["type"] == "integer").map(|(name, _)| name).collect();
    let Some(scores) = names.iter().map(|name| plain(fields, name)).collect::<Option<Vec<f64>>>() else { return Ok(()) };
    let fractions = scores.iter().filter(|score| score.fract() != 0.0).count();
    let highest = scores.iter().copied().fold(0.0, f64::max);
    match names.first() {
        Some(_) if fractions >= 2 && highest <= 1.0 => {
            for (name, score) in names.into_iter().zip(scores) {
                fields.insert(name.clone(), (score * 100.0).into());
            }
        }
        Some(first) if fractions > 0 && highest > 1.0 && highest <= 10.0 => return Err((*first).clone()),
        _ => {}
    }
    Ok(())
}

/// Returns a score that is written as a plain number.
fn plain(fields: &Map<String, Value>, name: &str) -> Option<f64> {
    match Quantity::deserialize(fields.get(name)?).ok()? {
        Quantity::Plain(number) => Some(number),
        Quantity::OfHundred(_) => None,
    }
}
