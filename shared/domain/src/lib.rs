//! The rules of Oslira, pure: no I/O, no clock, no runtime.
//!
//! Everything else depends on this crate and it depends on none of ours. Types carry the rules: a [`Username`], a
//! [`RunId`] or a [`Tier`] is parsed once at the edge and valid from then on.

pub mod assessment;
pub mod business;
pub mod cache;
pub mod ids;
pub mod ledger;
pub mod metrics;
pub mod money;
pub mod performance;
pub mod pricing;
pub mod profile;
pub mod run;
pub mod step;
pub mod tier;
pub mod username;

pub use business::BusinessContext;
pub use ids::{AccountId, BatchId, BusinessProfileId, InvalidId, LeadId, RunId, UserId};
pub use ledger::TransactionType;
pub use metrics::Metrics;
pub use money::{Credits, MicroUsd};
pub use performance::{Bottleneck, Performance};
pub use profile::{Post, PostKind, Profile};
pub use run::{FailureCode, Run, RunStatus};
pub use step::{Step, StepTiming};
pub use tier::{Call, Tier};
pub use username::{InvalidUsername, Username};
