//! Answers that follow any JSON schema.

use serde_json::{Map, Value, json};

use super::phrases;
use crate::profiles::Person;
use crate::seed::Choices;

/// The depth at which recursive schemas end.
const DEEPEST: usize = 12;

/// Returns a plausible answer about a person. The same person and schema give the same answer.
pub(crate) fn answer(schema: &Value, person: &Person) -> Value {
    let title = schema["title"].as_str().unwrap_or_default();
    let writer = Writer { root: schema, person, title, draw: person.choices("answer") };
    writer.value(schema, "", "", 0)
}

/// Returns an answer in prose.
pub(crate) fn prose(person: &Person, draw: &mut Choices) -> String {
    format!("Here is my assessment of @{}: {}", person.handle, phrases::summary(person, draw, 3))
}

/// Changes an answer so that it is valid JSON but violates its schema: one property is missing, one has the wrong type, and one is unknown.
pub(crate) fn broken(mut answer: Value) -> Value {
    if let Some(object) = answer.as_object_mut() {
        let names: Vec<String> = object.keys().cloned().collect();
        if let Some(first) = names.first() {
            object.remove(first);
        }
        if let Some(last) = names.last().filter(|_| names.len() > 1) {
            object.insert(last.clone(), json!({"value": "see above"}));
        }
        object.insert("additional_notes".to_owned(), "None.".into());
    }
    answer
}

/// Returns a person's quality as a lead, 0 to 100. All scores and verdicts about the person are near it.
fn quality(person: &Person) -> i64 {
    person.choices("quality").between(34, 93)
}

struct Writer<'a> {
    root: &'a Value,
    person: &'a Person,
    title: &'a str,
    draw: Choices,
}

impl Writer<'_> {
    /// Returns a value that follows a schema. `name` is the property of the value, `path` the properties above it.
    fn value(&self, schema: &Value, name: &str, path: &str, depth: usize) -> Value {
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.choice(values, path);
        }
        if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            let target = self.root.pointer(pointer).filter(|_| depth < DEEPEST);
            return target.map_or(Value::Null, |target| self.value(target, name, path, depth + 1));
        }
        if let Some(variants) = schema["anyOf"].as_array() {
            return self.variant(variants, name, path, depth);
        }
        let mut draw = self.draw.aspect(path);
        match Self::kind(schema, depth, &mut draw) {
            "object" => {
                let properties = schema["properties"].as_object();
                let fields = properties
                    .into_iter()
                    .flatten()
                    .map(|(property, schema)| (property.clone(), self.value(schema, property, &format!("{path}/{property}"), depth + 1)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            "array" => self.list(schema, name, path, depth, &mut draw),
            "integer" => self.integer(schema, name, &mut draw).into(),
            "number" => self.number(schema, name, &mut draw),
            "boolean" => draw.chance(60).into(),
            "null" => Value::Null,
            _ => self.text(schema, name, &mut draw).into(),
        }
    }

    fn kind<'s>(schema: &'s Value, depth: usize, draw: &mut Choices) -> &'s str {
        match &schema["type"] {
            Value::String(kind) => kind,
            Value::Array(kinds) => {
                let nullable = kinds.iter().any(|kind| kind == "null");
                if nullable && (depth >= DEEPEST || draw.chance(15)) {
                    return "null";
                }
                kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
            }
            _ => "string",
        }
    }

    fn variant(&self, variants: &[Value], name: &str, path: &str, depth: usize) -> Value {
        let mut draw = self.draw.aspect(&format!("{path} variant"));
        let (nulls, others): (Vec<&Value>, Vec<&Value>) = variants.iter().partition(|variant| variant["type"] == "null");
        if !nulls.is_empty() && (others.is_empty() || depth >= DEEPEST || draw.chance(15)) {
            return Value::Null;
        }
        others.get(draw.index(others.len())).map_or(Value::Null, |variant| self.value(variant, name, path, depth + 1))
    }

    /// Returns one of the values. Of grades it is the one that matches the person's quality.
    fn choice(&self, values: &[Value], path: &str) -> Value {
        const GRADES: [&[&str]; 4] =
            [&["pursue", "maybe", "skip"], &["high", "medium", "low"], &["hot", "warm", "cold"], &["strong", "moderate", "weak"]];
        let grades = GRADES.iter().find(|grades| grades.iter().all(|grade| values.iter().any(|value| value == grade)));
        if let Some(grades) = grades {
            let grade = match quality(self.person) {
                70.. => grades[0],
                50..70 => grades[1],
                _ => grades[2],
            };
            return grade.into();
        }
        let mut draw = self.draw.aspect(path);
        values.get(draw.index(values.len())).cloned().unwrap_or(Value::Null)
    }

    fn list(&self, schema: &Value, name: &str, path: &str, depth: usize, draw: &mut Choices) -> Value {
        // Good leads have nothing that speaks against them.
        if depth >= DEEPEST || (name == "red_flags" && quality(self.person) >= 60) {
            return json!([]);
        }
        let least = schema["minItems"].as_i64().unwrap_or(3).max(3);
        let most = schema["maxItems"].as_i64().unwrap_or(5).max(0);
        let count = draw.between(least.min(most), least.max(5).min(most));
        let items = &schema["items"];
        if items["type"] == "string" && items.get("enum").is_none() && items.get("format").is_none() {
            let count = usize::try_from(count).unwrap_or_default();
            return phrases::list(name, self.person, draw, count).into_iter().map(Value::String).collect();
        }
        let mut list: Vec<Value> = (0..count).map(|index| self.value(items, name, &format!("{path}/{index}"), depth + 1)).collect();
        if items.get("enum").is_some() {
            let mut kept: Vec<Value> = Vec::new();
            list.retain(|value| {
                let new = !kept.contains(value);
                kept.push(value.clone());
                new
            });
        }
        Value::Array(list)
    }

    fn integer(&self, schema: &Value, name: &str, draw: &mut Choices) -> i64 {
        let low = schema["minimum"].as_i64().unwrap_or(0);
        let high = schema["maximum"].as_i64().unwrap_or_else(|| low.saturating_add(100));
        if name.ends_with("score") || name.ends_with("_fit") {
            (quality(self.person) + draw.between(-11, 11)).clamp(low, high)
        } else {
            draw.between(low + (high - low) / 8, high - (high - low) / 12)
        }
    }

    /// Rounds to two decimals.
    fn number(&self, schema: &Value, name: &str, draw: &mut Choices) -> Value {
        let bound = |keyword: &str, default: f64| schema[keyword].as_f64().unwrap_or(default);
        let hundredths = if name.contains("confidence") || name.contains("probability") {
            // Little evidence gives a low confidence.
            if self.person.posts < 6 { draw.between(31, 52) } else { draw.between(58, 94) }
        } else if name.ends_with("score") {
            (quality(self.person) * 100 + draw.between(-900, 900)).clamp(0, 10_000)
        } else {
            draw.between(5, 95)
        };
        #[expect(clippy::cast_precision_loss, reason = "at most 10,000")]
        let number = hundredths as f64 / 100.0;
        number.clamp(bound("minimum", f64::MIN), bound("maximum", f64::MAX)).into()
    }

    fn text(&self, schema: &Value, name: &str, draw: &mut Choices) -> String {
        let handle = self.person.handle.as_str();
        match schema["format"].as_str() {
            Some("date-time") => return "2026-11-03T09:30:00Z".to_owned(),
            Some("date") => return "2026-11-03".to_owned(),
            Some("time") => return "09:30:00Z".to_owned(),
            Some("duration") => return "P14D".to_owned(),
            Some("email") => return format!("hello@{}.example", handle.replace('_', "-")),
            Some("uri" | "url") => return format!("https://{}.example/", handle.replace('_', "-")),
            Some("hostname") => return format!("{}.example", handle.replace('_', "-")),
            Some("uuid") => return format!("{:08x}-0000-4000-8000-{:012x}", draw.next() >> 32, draw.next() >> 16),
            _ => {}
        }
        let mut text = phrases::text(name, self.title, self.person, draw);
        if let Some(most) = schema["maxLength"].as_u64() {
            text = text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "title": "deep_core", "type": "object", "additionalProperties": false,
            "properties": {
                "overall_score": {"type": "integer"}, "confidence_level": {"type": "number"}, "summary_text": {"type": "string"},
                "key_strengths": {"type": "array", "items": {"type": "string"}},
                "recommended_action": {"type": "string", "enum": ["pursue", "maybe", "skip"]},
                "traits": {"type": "object", "properties": {"openness": {"type": "integer"}}, "required": ["openness"], "additionalProperties": false},
                "tree": {"$ref": "#/$defs/tree"}, "version": {"const": 3},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]}
            },
            "required": ["overall_score", "confidence_level", "summary_text", "key_strengths", "recommended_action", "traits", "tree", "version", "note"],
            "$defs": {"tree": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
                "required": ["next"], "additionalProperties": false}}
        })
    }

    #[test]
    fn every_answer_follows_its_schema_and_is_deterministic() {
        for n in 0..100 {
            let person = Person::of(&format!("creator_{n}"));
            let answer = answer(&schema(), &person);
            assert_eq!(answer, super::answer(&schema(), &person));
            assert!((0..=100).contains(&answer["overall_score"].as_i64().unwrap()));
            assert!((0..=100).contains(&answer["traits"]["openness"].as_i64().unwrap()));
            let confidence = answer["confidence_level"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&confidence) && (confidence * 100.0 - (confidence * 100.0).round()).abs() < 1e-9);
            let strengths = answer["key_strengths"].as_array().unwrap();
            assert!((3..=5).contains(&strengths.len()) && strengths.iter().all(|text| text.as_str().unwrap().len() > 10));
            assert!(["pursue", "maybe", "skip"].contains(&answer["recommended_action"].as_str().unwrap()));
            assert!(answer["note"].is_null() || answer["note"].is_string());
            assert_eq!(answer["version"], 3);
            assert!(answer["summary_text"].as_str().unwrap().len() > 60);
        }
    }

    #[test]
    fn a_verdict_matches_the_scores() {
        for n in 0..100 {
            let answer = answer(&schema(), &Person::of(&format!("lead{n}")));
            if answer["recommended_action"] == "pursue" {
                assert!(answer["overall_score"].as_i64().unwrap() >= 59, "{answer}");
            }
        }
    }

    #[test]
    fn a_broken_answer_is_json_and_violates_its_schema() {
        let whole = answer(&schema(), &Person::of("maya"));
        let broken = broken(whole.clone());
        assert!(broken.get(whole.as_object().unwrap().keys().next().unwrap()).is_none());
        assert!(broken["additional_notes"].is_string());
    }
}
