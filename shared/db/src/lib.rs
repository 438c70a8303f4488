//! PostgreSQL: sessions, migrations, and the SQL of each aggregate in a file of its own.
//!
//! Safe behind a pooler in transaction mode, as Supabase's is: no named prepared statements, nothing kept in the session,
//! every statement inside one transaction that takes on its role and claims first. BEGIN, role, statement and COMMIT are
//! pipelined, so a request costs one network round trip.
//!
//! Every statement here may run twice: after a lost connection it is sent again, since no one can know whether it took
//! effect. Reads do not care, and the functions in `migrations/` that write are idempotent by their run.

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
pub mod runs;
pub mod schedules;
mod session;
pub mod usage;
pub mod workflow;

pub use connect::{Credential, CredentialSource};
pub use error::DbError;
pub use listing::{Listed, Slice};
pub use migrations::{Schema, differs, give_password, migrate};
pub use session::{AdminDb, Claims, UserDb};
