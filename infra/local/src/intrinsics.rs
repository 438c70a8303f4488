//! Evaluates the intrinsic functions in the OpenAPI body of a processed template.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::emulator::{ACCOUNT, REGION, function_arn};

pub(crate) struct Scope<'a> {
    pub(crate) parameters: &'a BTreeMap<String, String>,
    /// Physical names by logical names.
    pub(crate) resources: &'a BTreeMap<String, String>,
}

impl Scope<'_> {
    /// Evaluates `Ref`, `Fn::Sub`, `Fn::GetAtt`, `Fn::Join` and `Fn::Split`. Unknown references stay unchanged.
    pub(crate) fn resolve(&self, value: &Value) -> Value {
        match value {
            Value::Array(values) => Value::Array(values.iter().map(|value| self.resolve(value)).collect()),
            Value::Object(object) => {
                let call = object
                    .iter()
                    .next()
                    .filter(|_| object.len() == 1)
                    .and_then(|(name, argument)| self.call(name, &self.resolve(argument)));
                call.unwrap_or_else(|| Value::Object(object.iter().map(|(name, value)| (name.clone(), self.resolve(value))).collect()))
            }
            other => other.clone(),
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Option<Value> {
        match (name, argument) {
            ("Ref", Value::String(name)) => self.name(name).map(Value::String),
            ("Fn::Sub", Value::String(text)) => Some(Value::String(self.substitute(text))),
            ("Fn::GetAtt", Value::Array(path)) => self.attribute(path.first()?.as_str()?, path.get(1)?.as_str()?).map(Value::String),
            ("Fn::Split", Value::Array(parts)) => {
                let (separator, text) = (parts.first()?.as_str()?, parts.get(1)?.as_str()?);
                Some(text.split(separator).map(|part| Value::from(part.trim())).collect())
            }
            ("Fn::Join", Value::Array(parts)) => {
                let texts = parts.get(1)?.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?;
                Some(Value::String(texts.join(parts.first()?.as_str()?)))
            }
            _ => None,
        }
    }

    fn name(&self, name: &str) -> Option<String> {
        match name {
            "AWS::Region" => Some(REGION.to_owned()),
            "AWS::Partition" => Some("aws".to_owned()),
            "AWS::AccountId" => Some(ACCOUNT.to_owned()),
            _ => self.parameters.get(name).or_else(|| self.resources.get(name)).cloned(),
        }
    }

    fn attribute(&self, resource: &str, attribute: &str) -> Option<String> {
        (attribute == "Arn").then(|| self.resources.get(resource).map(|name| function_arn(name))).flatten()
    }

    fn substitute(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap_or((part, ""));
            let found = name.split_once('.').map_or_else(|| self.name(name), |(resource, attribute)| self.attribute(resource, attribute));
            result.push_str(&found.unwrap_or_else(|| format!("${{{name}}}")));
            result.push_str(rest);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_origins_is_split() {
        let parameters = BTreeMap::from([("AllowedOrigins".to_owned(), "http://a,http://b".to_owned())]);
        let scope = Scope { parameters: &parameters, resources: &BTreeMap::new() };
        assert_eq!(
            scope.resolve(&json!({"allowOrigins": {"Fn::Split": [",", {"Ref": "AllowedOrigins"}]}})),
            json!({"allowOrigins": ["http://a", "http://b"]})
        );
    }
}
