//! Both model vendors, OpenAI and Anthropic: the answers that models write, what they cost, and the faults they can have.

mod answers;
mod cache;
mod exchange;
mod phrases;
mod protocol;
mod schema;

pub(crate) use exchange::{Models, exchange};
pub(crate) use protocol::{Answer, Caching, Dialect, Question, Refusal, Stop};
pub(crate) use schema::{Rules, check as check_schema};
