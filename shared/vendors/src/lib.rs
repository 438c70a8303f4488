//! Clients of the vendors: Apify fetches profiles, OpenAI and Anthropic judge them, Stripe takes money.
//!
//! Each client takes its base URL, so that a stand-in or a gateway can stand in for the vendor, and its credential with each
//! call, because credentials rotate. Errors say whether trying again makes sense and never carry a credential, a profile's
//! text or a vendor's own words: they are logged.

pub mod ai;
mod anthropic;
pub mod apify;
mod chat;
pub mod error;
mod instructions;
pub mod models;
mod openai;
pub mod prompt;
mod scraped;
pub mod stripe;
#[cfg(test)]
mod stub;
mod wire;

pub use ai::{Answer, AskError, Attempt, AttemptStatus, Endpoint, Endpoints, Keys, Models, Next, OpenAiApi, Question};
pub use apify::{ActorRun, ActorRunStatus, Apify, ScrapeOutcome, ScrapedItem};
pub use error::VendorError;
pub use models::{Catalogue, CatalogueError, Effort, Provider};
pub use prompt::{Prompt, prompt};
pub use stripe::Stripe;
pub use wire::http_client;
