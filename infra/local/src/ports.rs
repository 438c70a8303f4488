//! Free ports on the loopback interface.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// Returns a port that is free now. Another process may take it before the caller does, so that the caller must be able to retry with another one.
pub(crate) fn free() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Returns whether a port is free.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
