//! `template.yaml` as it is deployed locally: the same text, with the paths of the code replaced by objects in a bucket and the
//! parameters' defaults by their values.
//!
//! A function's package is a two-line script that runs the debug binary where cargo left it, so a rebuild needs no new deployment.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_yaml_ng::Value;
use zip::write::SimpleFileOptions;

use crate::binaries::Binaries;

/// Where the packages are put.
pub(crate) const BUCKET: &str = "local-deployment";

pub(crate) struct Template {
    /// The text to deploy.
    pub(crate) body: String,
    /// What the text refers to, by key in the bucket.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// The given parameters that it declares.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Template {
    /// Reads the checkout's template.
    pub(crate) fn read(root: &Path, binaries: &Binaries, parameters: BTreeMap<String, String>) -> Result<Self> {
        let text = std::fs::read_to_string(root.join("template.yaml")).context("cannot read template.yaml")?;
        let file = |path: &str| std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}"));
        Self::of(&text, parameters, |binary| package(&binaries.path(binary)?), file)
    }

    fn of(
        text: &str,
        mut parameters: BTreeMap<String, String>,
        package: impl Fn(&str) -> Result<Vec<u8>>,
        file: impl Fn(&str) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let (mut body, mut objects) = (String::with_capacity(text.len()), BTreeMap::new());
        let (mut section, mut entry) = ("", "");
        for line in text.lines() {
            match line.len() - line.trim_start().len() {
                0 if line.ends_with(':') => section = line,
                2 => entry = line.trim().split(':').next().unwrap_or_default(),
                _ => {}
            }
            let replaced = match property(line) {
                Some(("CodeUri", path)) => path.strip_prefix("target/lambda/").map(|binary| {
                    let binary = binary.trim_end_matches('/');
                    Ok((format!("{binary}.zip"), package(binary)?))
                }),
                Some(("DefinitionUri" | "Location", path)) if !path.contains("://") => {
                    Some(file(path).map(|content| (path.to_owned(), content)))
                }
                _ => None,
            };
            let (name, _) = line.split_once(':').unwrap_or((line, ""));
            if let Some((key, content)) = replaced.transpose().with_context(|| format!("template.yaml: {}", line.trim()))? {
                body.extend([name, ": s3://", BUCKET, "/", &key]);
                objects.insert(key, content);
            } else if let Some(value) = parameters.get(entry).filter(|_| section == "Parameters:" && name.trim() == "Default") {
                body.extend([name, ": ", &serde_json::to_string(value)?]);
            } else if property(line) == Some(("Action", "sqs:SendMessage")) {
                // On AWS this covers batches; the emulator wants to see them allowed by their own name, which AWS does not know.
                body.extend([name, ": [sqs:SendMessage, sqs:SendMessageBatch]"]);
            } else {
                body.push_str(line);
            }
            body.push('\n');
        }
        let parsed: Value = serde_yaml_ng::from_str(&body).context("template.yaml is no valid YAML")?;
        parameters.retain(|name, _| parsed["Parameters"].get(name).is_some());
        check_defaults(&parsed, &parameters)?;
        Ok(Self { body, objects, parameters })
    }
}

/// The emulator's SAM transformation knows no values and puts the defaults in, the vendors' real addresses among them. A default
/// that the text replacement missed must not pass.
fn check_defaults(template: &Value, parameters: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in parameters {
        if template["Parameters"][name.as_str()].get("Default").is_some_and(|default| default.as_str() != Some(value)) {
            bail!("template.yaml: write the parameter {name} with its Default on a line of its own");
        }
    }
    Ok(())
}

/// A `Name: text` line of the template, whatever its indentation.
fn property(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once(": ")?;
    let value = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
    Some((name, value)).filter(|(name, value)| !name.starts_with('#') && !value.is_empty())
}

/// The function gives way to the emulator: among a hundred cold starts on two cores that would otherwise answer nobody for so long that
/// functions give up on it, and are started again.
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
    use super::*;

    fn of(text: &str) -> Result<Template> {
        let parameters = BTreeMap::from([("ApifyBaseUrl", "http://127.0.0.1:1/apify"), ("Environment", "local"), ("Unknown", "x")]);
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Template::of(
            text,
            parameters,
            |binary| if binary == "nothing" { bail!("no such binary") } else { Ok(binary.into()) },
            |path| Ok(path.into()),
        )
    }

    #[test]
    fn paths_become_objects_and_the_rest_stays() {
        let template = of("Resources:\n  A:\n    Properties:\n      CodeUri: target/lambda/analyze/ # built\n      Default: 1\n  M:\n    Properties:\n      DefinitionUri: infra/analysis.asl.json\n      Name: !Sub a-${Environment}\n").unwrap();
        assert!(template.body.contains("      CodeUri: s3://local-deployment/analyze.zip\n      Default: 1\n"));
        assert!(
            template
                .body
                .contains("      DefinitionUri: s3://local-deployment/infra/analysis.asl.json\n      Name: !Sub a-${Environment}\n")
        );
        assert_eq!(template.objects["analyze.zip"], b"analyze");
        assert_eq!(template.objects.keys().collect::<Vec<_>>(), ["analyze.zip", "infra/analysis.asl.json"]);
    }

    #[test]
    fn defaults_give_way_to_values() {
        let template =
            of("Parameters:\n  Environment: {Type: String}\n  ApifyBaseUrl:\n    Type: String\n    Default: https://api.apify.com\n")
                .unwrap();
        assert!(template.body.ends_with("    Default: \"http://127.0.0.1:1/apify\"\n"));
        assert_eq!(template.parameters.keys().collect::<Vec<_>>(), ["ApifyBaseUrl", "Environment"]);
        assert!(of("Parameters:\n  ApifyBaseUrl: {Type: String, Default: https://api.apify.com}\n").is_err());
    }

    #[test]
    fn a_missing_binary_is_told_with_its_line() {
        let error = of("CodeUri: target/lambda/nothing/\n").err().unwrap();
        assert_eq!(format!("{error:#}"), "template.yaml: CodeUri: target/lambda/nothing/: no such binary");
    }
}
