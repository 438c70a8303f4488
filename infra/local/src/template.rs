//! `template.yaml` as it is deployed locally: the same text, with the paths of the code replaced by objects in a bucket.
//!
//! A function's package is a two-line script that runs the debug binary where cargo left it, so a rebuild needs no new deployment.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result};
use zip::write::SimpleFileOptions;

use crate::binaries::Binaries;

/// Where the packages are put.
pub(crate) const BUCKET: &str = "local-deployment";

pub(crate) struct Template {
    /// The text to deploy.
    pub(crate) body: String,
    /// What the text refers to, by key in the bucket.
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// The parameters that it declares.
    pub(crate) parameters: Vec<String>,
}

impl Template {
    pub(crate) fn read(root: &Path, binaries: &Binaries) -> Result<Self> {
        let text = std::fs::read_to_string(root.join("template.yaml")).context("cannot read template.yaml")?;
        Self::of(
            &text,
            |binary| package(&binaries.path(binary)?),
            |path| std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}")),
        )
    }

    fn of(text: &str, package: impl Fn(&str) -> Result<Vec<u8>>, file: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let (mut body, mut objects) = (String::with_capacity(text.len()), BTreeMap::new());
        for line in text.lines() {
            let replaced = match property(line) {
                Some(("CodeUri", path)) => path.strip_prefix("target/lambda/").map(|binary| {
                    let binary = binary.trim_end_matches('/');
                    Ok((format!("{binary}.zip"), package(binary)?))
                }),
                Some(("DefinitionUri", path)) if !path.contains("://") => Some(file(path).map(|content| (path.to_owned(), content))),
                _ => None,
            };
            if let Some((key, content)) = replaced.transpose().with_context(|| format!("template.yaml: {}", line.trim()))? {
                let (name, _) = line.split_once(':').unwrap_or((line, ""));
                body.extend([name, ": s3://", BUCKET, "/", &key]);
                objects.insert(key, content);
            } else {
                body.push_str(line);
            }
            body.push('\n');
        }
        let parsed: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).context("template.yaml is no valid YAML")?;
        let declared = parsed.get("Parameters").and_then(serde_yaml_ng::Value::as_mapping);
        let parameters = declared.into_iter().flatten().filter_map(|(name, _)| name.as_str().map(str::to_owned)).collect();
        Ok(Self { body, objects, parameters })
    }
}

/// A `Name: text` line of the template, whatever its indentation.
fn property(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once(": ")?;
    let value = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
    Some((name, value)).filter(|(name, value)| !name.starts_with('#') && !value.is_empty())
}

fn package(binary: &Path) -> Result<Vec<u8>> {
    let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", binary.display());
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file("bootstrap", SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).unix_permissions(0o755))?;
    archive.write_all(script.as_bytes())?;
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_objects_and_the_rest_stays() {
        let text = "Parameters:\n  Environment: {Type: String}\nResources:\n  A:\n    Properties:\n      CodeUri: target/lambda/analyze/ # built\n  M:\n    Properties:\n      DefinitionUri: infra/analysis.asl.json\n      Name: !Sub a-${Environment}\n";
        let template = Template::of(text, |binary| Ok(binary.into()), |path| Ok(path.into())).unwrap();
        assert!(template.body.contains("      CodeUri: s3://local-deployment/analyze.zip\n"));
        assert!(
            template
                .body
                .contains("      DefinitionUri: s3://local-deployment/infra/analysis.asl.json\n      Name: !Sub a-${Environment}\n")
        );
        assert_eq!(template.objects["analyze.zip"], b"analyze");
        assert_eq!(template.objects.keys().collect::<Vec<_>>(), ["analyze.zip", "infra/analysis.asl.json"]);
        assert_eq!(template.parameters, ["Environment"]);
    }

    #[test]
    fn a_missing_binary_is_told_with_its_line() {
        let error =
            Template::of("CodeUri: target/lambda/nothing/\n", |_| anyhow::bail!("no such binary"), |_| Ok(Vec::new())).err().unwrap();
        assert_eq!(format!("{error:#}"), "template.yaml: CodeUri: target/lambda/nothing/: no such binary");
    }
}
