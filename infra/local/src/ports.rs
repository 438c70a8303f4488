//! Free ports on the loopback interface.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// A port that nothing listens on. Another process may take it before its user does: whoever starts a server on it tries again
/// with another.
pub(crate) fn free() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Whether the port can be listened on.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
