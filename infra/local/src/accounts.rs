//! Accounts for the stack's processes when it is started by root, as in a container: code that runs in them need not be able to change the machine.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use nix::unistd::{Uid, User};

/// Returns the first of these accounts if this process is root.
pub(crate) fn instead_of_root(names: &[&str]) -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in names {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

/// Returns an account without rights if this process is root and every account can reach these paths. A checkout in root's own home is closed to
/// others: there, the processes stay root's.
pub(crate) fn unprivileged(paths: &[&Path]) -> Result<Option<User>> {
    let is_open = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let reachable = paths.iter().all(|path| path.ancestors().all(is_open));
    if reachable { instead_of_root(&["nobody"]) } else { Ok(None) }
}
