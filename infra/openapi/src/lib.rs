//! The API's document, made of the descriptions of all features.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use oslira_http::openapi::Api;
use serde_json::Value;

/// Returns the path of the document, which the function that serves it includes.
pub fn document_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/operations/openapi.json")
}

/// Returns the path of the examples: requests and responses that the integration tests recorded.
pub fn examples_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples.json")
}

/// Returns the document.
///
/// # Errors
/// Fails if a description contradicts itself or the examples cannot be read.
pub fn document() -> Result<String> {
    let mut api = Api::default();
    oslira_fn_analysis::describe(&mut api);
    oslira_fn_bulk::describe(&mut api);
    oslira_fn_leads::describe(&mut api);
    oslira_fn_cache::describe(&mut api);
    oslira_fn_business_profiles::describe(&mut api);
    oslira_fn_credits::describe(&mut api);
    oslira_fn_billing::describe(&mut api);
    oslira_fn_health::describe(&mut api);
    oslira_fn_operations::describe(&mut api);
    let examples: Value = match fs::read_to_string(examples_path()) {
        Ok(text) => serde_json::from_str(&text).context("the examples are not JSON")?,
        Err(_) => Value::Null,
    };
    let document = api.document(env!("CARGO_PKG_VERSION"), &examples).map_err(|contradictions| anyhow!(contradictions.join("\n")))?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
