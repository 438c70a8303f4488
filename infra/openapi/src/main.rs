//! `cargo openapi`: writes the document that `GET /openapi.json` serves.

use anyhow::Result;

fn main() -> Result<()> {
    let path = oslira_openapi::document_path();
    std::fs::write(&path, oslira_openapi::document()?)?;
    Ok(())
}
