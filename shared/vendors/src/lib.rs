//! Clients of the vendors: Apify fetches profiles, `OpenAI` and Anthropic run models, Stripe takes payments.
//!
//! Each client takes a base URL, so that the sandbox or a gateway can replace the vendor, and a [`Credential`](oslira_credential::Credential),
//! which it renews when the vendor refuses it. Errors are logged: they never contain a credential, a profile's text or a vendor's message.

mod actor_cost;
mod anthropic;
pub mod apify;
mod chat;
pub mod error;
mod exchange;
mod instructions;
pub mod model_client;
pub mod models;
mod openai;
pub mod prompt;
mod reading;
mod scraped;
pub mod stripe;
#[cfg(test)]
mod stub;
mod usage;
mod wire;

pub use actor_cost::ActorCost;
pub use apify::{ActorRun, ActorRunStatus, Apify, ApifySecret, ScrapeOutcome, ScrapedItem};
pub use error::VendorError;
pub use exchange::Question;
pub use model_client::{
    Answer, Attempt, AttemptStatus, Endpoint, Endpoints, ModelClient, ModelError, ModelSecret, ModelSecrets, Next, OpenAiApi, read_answer,
};
pub use models::{Catalogue, CatalogueError, Effort, Model, OutputLimit, Provider, Route, Usage};
pub use prompt::{Prompt, prompt};
pub use stripe::Stripe;
pub use wire::http_client;
