//! The tasks of the analysis state machine (`infra/analysis.asl.json`), one Lambda each.
//!
//! Every task may run twice, late, or be killed between any two lines: each asks the database first whether its run still wants it, and
//! whatever it writes is idempotent by run.

mod admit;
mod analyze;
mod check_cache;
mod compensate;
mod error;
mod save;
mod scrape;
mod state;
mod task;
mod timing;

pub use admit::admit;
pub use analyze::{Asker, analyze};
pub use check_cache::check_cache;
pub use compensate::serve_compensate;
pub use save::save;
pub use scrape::{Scraper, scrape};
pub use task::{Deps, run};
