//! The tasks of the analysis state machine (`infra/analysis.asl.json`), one Lambda for each.
//!
//! Every task may run twice, late, or be killed between any two lines. Each first asks the database whether its run is still active, and every
//! write is idempotent by run.

mod admit;
mod analyze;
mod compensate;
mod config;
mod error;
mod fetch;
mod question;
mod save;
mod scrape;
mod state;
mod task;
mod timing;

pub use admit::admit;
pub use analyze::{AnalyzeClients, analyze};
pub use compensate::serve_compensate;
pub use config::{AnalyzeConfig, FetchConfig, SaveConfig, TaskConfig};
pub use fetch::{FetchClients, fetch};
pub use save::save;
pub use task::{Deps, run};
