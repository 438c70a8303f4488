//! A catalogue as it is judged: each route's first model alone. A fallback would hide the model's failures behind another one's answers.

use anyhow::{Context, Result};
use oslira_domain::{Call, Tier};
use oslira_vendors::Catalogue;
use toml::{Table, Value};

/// A catalogue without fallbacks.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    table: Table,
}

impl Subject {
    /// Reads a catalogue.
    ///
    /// # Errors
    /// Fails as [`Catalogue::parse`].
    pub(crate) fn read(text: &str) -> Result<Self> {
        Catalogue::parse(text)?;
        let mut table: Table = toml::from_str(text).context("the catalogue of models")?;
        for route in routes(&mut table) {
            route.remove("fallback");
        }
        Ok(Self { table })
    }

    /// Returns the catalogue for a client.
    pub(crate) fn catalogue(&self) -> Result<Catalogue> {
        Ok(Catalogue::parse(&toml::to_string(&self.table)?)?)
    }

    /// Returns the same catalogue with a model that does not exist.
    pub(crate) fn with_unknown_model(&self) -> Result<Self> {
        const UNKNOWN: &str = "eval-unknown-model";
        let mut table = self.table.clone();
        let models = table.get_mut("models").and_then(Value::as_table_mut).context("a catalogue has models")?;
        *models = models.iter().map(|(name, model)| (format!("{UNKNOWN}-{name}"), model.clone())).collect();
        for route in routes(&mut table) {
            let name = format!("{UNKNOWN}-{}", route.get("model").and_then(Value::as_str).unwrap_or_default());
            route.insert("model".to_owned(), Value::String(name));
        }
        Ok(Self { table })
    }

    /// Returns the name of the model that answers a question.
    pub(crate) fn model(&self, tier: Tier, call: Call) -> String {
        self.route(tier, call).and_then(|route| route.get("model")).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Returns what determines a model's answers beside the prompt: its name, effort and limits.
    pub(crate) fn settings(&self, tier: Tier, call: Call) -> String {
        self.route(tier, call).map(ToString::to_string).unwrap_or_default()
    }

    fn route(&self, tier: Tier, call: Call) -> Option<&Value> {
        self.table.get("routes")?.get(tier.as_str())?.get(call.as_str())
    }
}

fn routes(table: &mut Table) -> impl Iterator<Item = &mut Table> {
    let tiers = table.get_mut("routes").and_then(Value::as_table_mut).into_iter().flat_map(|tiers| tiers.iter_mut());
    tiers.filter_map(|(_, calls)| calls.as_table_mut()).flat_map(|calls| calls.iter_mut()).filter_map(|(_, route)| route.as_table_mut())
}
