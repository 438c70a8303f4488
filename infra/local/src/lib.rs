//! The local stack: PostgreSQL, the AWS emulator with the deployed template, and stand-ins for the third parties, as child processes on the
//! loopback interface. `cargo local` runs a stack for a developer, and the tests run one of their own.

mod binaries;
pub mod check;
mod database;
mod deploy;
mod emulator;
mod info;
mod intrinsics;
mod live;
pub mod logs;
mod ports;
mod postgres;
mod prerequisites;
mod processes;
mod progress;
pub mod rie;
mod routes;
mod stack;
mod state;
mod template;
mod vendors;
mod venv;

pub use aws_config::SdkConfig;
pub use binaries::cargo;
pub use database::{DatabaseSummary, LedgerEntry, ledger, responds as database_responds, summary as database_summary};
pub use emulator::AccessKey;
pub use info::{Demo, Options, StackInfo};
pub use live::Live;
pub use prerequisites::newest_postgres;
pub use processes::{FunctionProcess, function_processes, has_ended, kill_function_process};
pub use stack::{Stack, create_account, functions_of, info_of};
pub use state::owner;
pub use template::parse as parse_template;
pub use venv::{PythonTool, python};

/// Returns a password of 128 random bits.
fn random_password() -> String {
    uuid::Uuid::from_u128(rand::random()).simple().to_string()
}
