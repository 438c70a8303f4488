//! The schemas that the vendors accept for structured output.

use serde_json::{Map, Value};

/// The rules of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// OpenAI's strict mode: all properties are required.
    Openai,
    /// Anthropic: properties can be optional, and there are no bounds.
    Anthropic,
}

/// OpenAI's limit of nested levels.
const DEEPEST: usize = 10;

/// Checks a schema.
///
/// # Errors
/// The vendor's error message.
pub(crate) fn check(rules: Rules, schema: &Value) -> Result<(), String> {
    let Some(root) = schema.as_object() else {
        return Err("schema must be a JSON Schema of 'type: \"object\"'.".to_owned());
    };
    if root.get("type").and_then(Value::as_str) != Some("object") {
        return Err(format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{}\"'.", kind(root)));
    }
    node(rules, schema, &mut Vec::new(), schema, 0)
}

fn kind(schema: &Map<String, Value>) -> String {
    schema.get("type").map_or_else(|| "None".to_owned(), |kind| kind.as_str().map_or_else(|| kind.to_string(), str::to_owned))
}

fn complain(path: &[String], what: &str) -> String {
    let context: Vec<String> = path.iter().map(|part| format!("'{part}'")).collect();
    let comma = if context.len() == 1 { "," } else { "" };
    format!("In context=({}{comma}), {what}", context.join(", "))
}

fn node(rules: Rules, schema: &Value, path: &mut Vec<String>, root: &Value, depth: usize) -> Result<(), String> {
    let Some(object) = schema.as_object() else {
        return Err(complain(path, "schema must be an object."));
    };
    if depth > DEEPEST {
        return Err(format!("{depth} levels of nesting exceeds limit of {DEEPEST}."));
    }
    if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
        if rules == Rules::Openai && object.len() > 1 {
            return Err(complain(path, "$ref cannot have keywords beside it."));
        }
        let found = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map(|_| ()).ok_or_else(|| complain(path, &format!("reference '{reference}' cannot be resolved.")));
    }
    if let Some(keyword) = object.keys().find(|keyword| forbidden(rules, keyword, schema)) {
        return Err(complain(path, &format!("'{keyword}' is not permitted.")));
    }
    for (name, definition) in object.get("$defs").and_then(Value::as_object).into_iter().flatten() {
        inside(rules, definition, path, &["$defs", name], root, 0)?;
    }
    if let Some(variants) = object.get("anyOf") {
        let Some(variants) = variants.as_array().filter(|variants| !variants.is_empty()) else {
            return Err(complain(path, "'anyOf' must be a non-empty array."));
        };
        for (index, variant) in variants.iter().enumerate() {
            inside(rules, variant, path, &["anyOf", &index.to_string()], root, depth)?;
        }
        return Ok(());
    }
    if object.contains_key("const") || object.get("enum").and_then(Value::as_array).is_some_and(|values| !values.is_empty()) {
        return Ok(());
    }
    let kinds: Vec<&str> = match object.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return Err(complain(path, "schema must have a 'type' key.")),
    };
    for kind in kinds {
        match kind {
            "object" => properties(rules, object, path, root, depth)?,
            "array" => match object.get("items") {
                Some(items) => inside(rules, items, path, &["items"], root, depth + 1)?,
                None => return Err(complain(path, "array schema missing items.")),
            },
            "string" | "integer" | "number" | "boolean" | "null" => {}
            other => return Err(complain(path, &format!("'{other}' is not a type."))),
        }
    }
    Ok(())
}

fn inside(rules: Rules, schema: &Value, path: &mut Vec<String>, steps: &[&str], root: &Value, depth: usize) -> Result<(), String> {
    let length = path.len();
    path.extend(steps.iter().map(|step| (*step).to_owned()));
    node(rules, schema, path, root, depth)?;
    path.truncate(length);
    Ok(())
}

fn forbidden(rules: Rules, keyword: &str, schema: &Value) -> bool {
    match keyword {
        "oneOf"
        | "not"
        | "if"
        | "then"
        | "else"
        | "dependentRequired"
        | "dependentSchemas"
        | "patternProperties"
        | "unevaluatedProperties"
        | "propertyNames"
        | "minProperties"
        | "maxProperties"
        | "contains"
        | "uniqueItems" => true,
        "allOf" | "default" => rules == Rules::Openai,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "minLength" | "maxLength" | "maxItems" => {
            rules == Rules::Anthropic
        }
        "minItems" => rules == Rules::Anthropic && schema["minItems"].as_u64().is_none_or(|count| count > 1),
        _ => false,
    }
}

fn properties(rules: Rules, object: &Map<String, Value>, path: &mut Vec<String>, root: &Value, depth: usize) -> Result<(), String> {
    if object.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Err(complain(path, "'additionalProperties' is required to be supplied and to be false."));
    }
    let empty = Map::new();
    let properties = object.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required: Vec<&str> = object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if rules == Rules::Openai
        && let Some(missing) = properties.keys().find(|name| !required.contains(&name.as_str()))
    {
        let what =
            format!("'required' is required to be supplied and to be an array including every key in properties. Missing '{missing}'.");
        return Err(complain(path, &what));
    }
    if let Some(extra) = required.iter().find(|name| !properties.contains_key(**name)) {
        return Err(complain(path, &format!("Extra required key '{extra}' supplied.")));
    }
    for (name, schema) in properties {
        inside(rules, schema, path, &["properties", name], root, depth + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn closed(properties: &Value) -> Value {
        let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    #[test]
    fn both_vendors_accept_a_strict_schema() {
        let mut schema = closed(&json!({
            "score": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}},
            "level": {"type": "string", "enum": ["a", "b"]}, "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "maybe": {"type": ["string", "null"]}, "part": {"$ref": "#/$defs/part"}
        }));
        schema["$defs"] = json!({"part": closed(&json!({"ok": {"type": "boolean"}}))});
        assert_eq!(check(Rules::Openai, &schema), Ok(()));
        assert_eq!(check(Rules::Anthropic, &schema), Ok(()));
    }

    #[test]
    fn a_schema_that_openai_rejects_is_rejected_with_its_message() {
        let open = json!({"type": "object", "properties": {}, "required": []});
        assert_eq!(
            check(Rules::Openai, &open).unwrap_err(),
            "In context=(), 'additionalProperties' is required to be supplied and to be false."
        );
        let mut missing = closed(&json!({"a": {"type": "string"}, "b": {"type": "string"}}));
        missing["required"] = json!(["a"]);
        assert!(check(Rules::Openai, &missing).unwrap_err().ends_with("including every key in properties. Missing 'b'."));
        assert_eq!(check(Rules::Anthropic, &missing), Ok(()));
        for (wrong, words) in [
            (json!({}), "must have a 'type' key"),
            (json!({"type": "string", "default": "x"}), "'default' is not permitted"),
            (json!({"oneOf": [{"type": "string"}]}), "'oneOf' is not permitted"),
            (json!({"type": "array"}), "missing items"),
            (json!({"$ref": "#/$defs/none"}), "cannot be resolved"),
            (json!({"type": "text"}), "is not a type"),
        ] {
            let complaint = check(Rules::Openai, &closed(&json!({"x": wrong}))).unwrap_err();
            assert!(complaint.starts_with("In context=('properties', 'x')") && complaint.contains(words), "{complaint}");
        }
        assert!(check(Rules::Openai, &json!({"type": "array", "items": {"type": "string"}})).is_err());
    }

    #[test]
    fn anthropic_rejects_bounds() {
        let bounded = closed(&json!({"score": {"type": "integer", "minimum": 0}}));
        assert_eq!(check(Rules::Openai, &bounded), Ok(()));
        assert!(check(Rules::Anthropic, &bounded).unwrap_err().contains("'minimum'"));
    }
}
