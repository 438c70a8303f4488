//! The rules of Oslira, without I/O, a clock or a runtime.
//!
//! Every other crate of this workspace may depend on this one; it depends on none of them. Types carry the rules: a [`Username`], a
//! [`RunId`] or a [`Tier`] is parsed once at the edge and is valid from then on.

pub mod assessment;
pub mod business;
pub mod cache;
pub mod ids;
pub mod influence;
pub mod ledger;
pub mod metrics;
pub mod money;
pub mod performance;
pub mod pricing;
pub mod profile;
pub mod run;
pub mod step;
pub mod text;
pub mod tier;
pub mod username;

pub use business::BusinessContext;
pub use ids::{AccountId, BatchId, BusinessProfileId, InvalidId, LeadId, RunId, UserId};
pub use ledger::TransactionType;
pub use metrics::Metrics;
pub use money::{Credits, MicroUsd};
pub use performance::{Bottleneck, Performance};
pub use profile::{Post, PostKind, Profile};
pub use run::{ExecutionInput, FailureCode, Run, RunStatus};
pub use step::{Step, StepTiming};
pub use tier::{Call, Tier};
pub use username::{InvalidUsername, Pasted, Username};
