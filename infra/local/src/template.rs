//! `template.yaml` as the local stack deploys it: code and files are objects in a bucket, and parameters have other defaults.
//!
//! The package of a function is a two-line script that runs the debug binary where cargo left it, so that a build needs no new deployment.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use serde_yaml_ng::Value as Yaml;
use zip::write::SimpleFileOptions;

use crate::binaries::Binaries;

/// The bucket of the packages.
pub(crate) const BUCKET: &str = "local-deployment";

pub(crate) struct Template {
    /// The template to deploy, as JSON.
    pub(crate) body: String,
    /// The objects that it refers to, by their keys in the bucket.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// The given parameters that it declares.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Template {
    /// Reads the template of a checkout.
    pub(crate) fn read(root: &Path, binaries: &Binaries, parameters: BTreeMap<String, String>) -> Result<Self> {
        let text = std::fs::read_to_string(root.join("template.yaml")).context("cannot read template.yaml")?;
        let file = |path: &str| std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}"));
        Self::of(&text, parameters, |binary| package(&binaries.path(binary)?), file).context("template.yaml")
    }

    fn of(
        text: &str,
        mut parameters: BTreeMap<String, String>,
        package: impl Fn(&str) -> Result<Vec<u8>>,
        file: impl Fn(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let mut template = parse(text)?;
        let mut objects = BTreeMap::new();
        for_each_property(&mut template, &mut |name, value| {
            let object = match (name, value.as_str()) {
                ("CodeUri", Some(path)) => path.strip_prefix("target/lambda/").map(|binary| {
                    let binary = binary.trim_end_matches('/');
                    Ok((format!("{binary}.zip"), package(binary)?))
                }),
                ("DefinitionUri" | "Location", Some(path)) if !path.contains("://") => {
                    Some(file(path).map(|content| (path.to_owned(), content)))
                }
                // On AWS, sqs:SendMessage covers batches. The emulator requires an action for them that AWS does not know.
                ("Action", Some("sqs:SendMessage")) => {
                    *value = json!(["sqs:SendMessage", "sqs:SendMessageBatch"]);
                    None
                }
                _ => None,
            };
            if let Some((key, content)) = object.transpose().with_context(|| format!("{name} {value}"))? {
                *value = Value::from(format!("s3://{BUCKET}/{key}"));
                objects.insert(key, content);
            }
            Ok(())
        })?;
        parameters.retain(|name, _| template["Parameters"].get(name).is_some());
        for (name, value) in &parameters {
            // The emulator's SAM transformation replaces references to parameters by their defaults, among them the vendors' real addresses.
            if let Some(default) = template["Parameters"][name].get_mut("Default") {
                *default = Value::from(value.as_str());
            }
        }
        Ok(Self { body: template.to_string(), objects, parameters })
    }
}

/// Parses a template in YAML. Short forms of intrinsic functions, such as `!Ref Name`, become full forms: `{"Ref": "Name"}`.
///
/// # Errors
/// Fails if the text is not valid YAML or a key is not a string.
pub fn parse(text: &str) -> Result<Value> {
    full_form(serde_yaml_ng::from_str(text)?)
}

fn full_form(value: Yaml) -> Result<Value> {
    Ok(match value {
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let argument = match (name, full_form(tagged.value)?) {
                ("GetAtt", Value::String(path)) => path.splitn(2, '.').collect(),
                (_, argument) => argument,
            };
            let function = if ["Ref", "Condition"].contains(&name) { name.to_owned() } else { format!("Fn::{name}") };
            json!({ function: argument })
        }
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(full_form).collect::<Result<_>>()?),
        Yaml::Mapping(fields) => {
            let field = |(key, value): (Yaml, Yaml)| {
                let key = key.as_str().with_context(|| format!("the key {key:?} is not a string"))?.to_owned();
                Ok((key, full_form(value)?))
            };
            Value::Object(fields.into_iter().map(field).collect::<Result<Map<_, _>>>()?)
        }
        plain => serde_json::to_value(plain)?,
    })
}

/// Calls `change` with the name and the value of every property at any depth.
fn for_each_property(value: &mut Value, change: &mut impl FnMut(&str, &mut Value) -> Result<()>) -> Result<()> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| for_each_property(item, change)),
        Value::Object(fields) => fields.iter_mut().try_for_each(|(name, value)| {
            change(name, value)?;
            for_each_property(value, change)
        }),
        _ => Ok(()),
    }
}

/// Packs a script that runs the binary with a lower priority than the emulator's. Otherwise a hundred cold starts on two cores keep the emulator
/// from responding: functions time out on it and are started again.
fn package(binary: &Path) -> Result<Vec<u8>> {
    let script = format!("#!/bin/sh\nexec nice -n 10 '{}' \"$@\"\n", binary.display());
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file("bootstrap", SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).unix_permissions(0o755))?;
    archive.write_all(script.as_bytes())?;
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn of(text: &str) -> Result<Template> {
        let parameters = BTreeMap::from([("ApifyBaseUrl", "http://127.0.0.1:1/apify"), ("Environment", "local"), ("Unknown", "x")]);
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Template::of(
            text,
            parameters,
            |binary| if binary == "missing" { bail!("no such binary") } else { Ok(binary.into()) },
            |path| Ok(path.into()),
        )
    }

    fn body(template: &Template) -> Value {
        template.body.parse().unwrap()
    }

    #[test]
    fn paths_become_objects_and_everything_else_stays() {
        let template = of("Resources:\n  A:\n    Properties:\n      CodeUri: target/lambda/analyze/ # built\n      Default: 1\n  M: {Properties: {DefinitionUri: infra/analysis.asl.json, Name: !Sub \"a-${Environment}\"}}\n").unwrap();
        let expected = json!({ "Resources": {
            "A": { "Properties": { "CodeUri": "s3://local-deployment/analyze.zip", "Default": 1 } },
            "M": { "Properties": { "DefinitionUri": "s3://local-deployment/infra/analysis.asl.json", "Name": { "Fn::Sub": "a-${Environment}" } } },
        }});
        assert_eq!(body(&template), expected);
        assert_eq!(template.objects["analyze.zip"], b"analyze");
        assert_eq!(template.objects.keys().collect::<Vec<_>>(), ["analyze.zip", "infra/analysis.asl.json"]);
    }

    #[test]
    fn defaults_become_the_given_values() {
        let template =
            of("Parameters:\n  Environment: {Type: String}\n  ApifyBaseUrl: {Type: String, Default: \"https://api.apify.com\"}\n").unwrap();
        let expected = json!({ "Parameters": {
            "Environment": { "Type": "String" },
            "ApifyBaseUrl": { "Type": "String", "Default": "http://127.0.0.1:1/apify" },
        }});
        assert_eq!(body(&template), expected);
        assert_eq!(template.parameters.keys().collect::<Vec<_>>(), ["ApifyBaseUrl", "Environment"]);
    }

    #[test]
    fn short_forms_become_full_forms() {
        let template = parse("a: !GetAtt Queue.Arn\nb: [!Ref Queue, !If [C, !Sub \"x\", 2]]\nc: !Not [!Condition C]\n").unwrap();
        let expected = json!({
            "a": { "Fn::GetAtt": ["Queue", "Arn"] },
            "b": [{ "Ref": "Queue" }, { "Fn::If": ["C", { "Fn::Sub": "x" }, 2] }],
            "c": { "Fn::Not": [{ "Condition": "C" }] },
        });
        assert_eq!(template, expected);
    }

    #[test]
    fn a_missing_binary_is_reported_with_its_property() {
        let error = of("CodeUri: target/lambda/missing/\n").err().unwrap();
        assert_eq!(format!("{error:#}"), "CodeUri \"target/lambda/missing/\": no such binary");
    }
}
