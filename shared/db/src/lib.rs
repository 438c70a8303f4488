//! PostgreSQL: sessions, migrations, and the SQL of each aggregate in a file of its own.
//!
//! Works behind a pooler in transaction mode, as Supabase's is: no named prepared statements, nothing kept in the session, and every
//! statement inside one transaction that first takes on its role and claims. BEGIN, role, statement and COMMIT are pipelined, so a request
//! costs one network round trip.
//!
//! A statement returns one JSON document, which serde reads into the type that its caller needs. What a function in `migrations/` decides
//! is an enum with the fields of each outcome.
//!
//! Every statement may run twice: after a lost connection it is sent again, since nothing shows whether it took effect. Reads can be
//! repeated, and the functions in `migrations/` that write are idempotent.

pub mod billing;
pub mod bulk;
pub mod business_profiles;
pub mod cache;
mod connect;
pub mod credits;
mod error;
pub mod idempotency;
pub mod leads;
mod listing;
mod migrations;
mod params;
pub mod runs;
pub mod schedules;
mod session;
pub mod usage;
pub mod workflow;

pub use connect::DatabaseLogin;
pub use error::DbError;
pub use listing::{Listed, Slice};
pub use migrations::{Schema, differs, give_password, migrate};
pub use session::{AdminDb, Claims, UserDb, pauses, within};
