//! The state directory: the files that a stack keeps for its next start, and the lock of the running stack.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};

/// A state directory whose lock this process holds. The kernel releases the lock when the process ends.
pub(crate) struct StateDir {
    path: PathBuf,
    lock: File,
}

/// Unlocks explicitly, because closing the file is not enough: until its `exec`, a child process has a copy of the file and so of the lock.
impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl StateDir {
    /// Creates the directory if it is missing and takes its lock.
    ///
    /// # Errors
    /// Fails if another process holds the lock.
    pub(crate) fn acquire(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let path = path.canonicalize()?;
        let mut lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("a stack is already running on {}: `cargo local status` shows it", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the state directory"),
        }
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        Ok(Self { path, lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file or subdirectory.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns an empty subdirectory.
    pub(crate) fn empty_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.join(name)).ok()?).ok()
    }

    /// Writes a JSON file atomically. Only its owner may read it, because it may contain passwords.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let draft = self.join(&format!("{name}.new"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(serde_json::to_string_pretty(value)?.as_bytes())?;
        file.write_all(b"\n")?;
        fs::rename(&draft, self.join(name))?;
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.join(name));
    }
}

/// Returns the process that holds the lock of a state directory.
pub fn owner(path: &Path) -> Option<u32> {
    let lock = File::open(path.join("lock")).ok()?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock_shared() {
        return fs::read_to_string(path.join("lock")).ok()?.trim().parse().ok();
    }
    // Explicitly, as in `StateDir::drop`.
    let _ = lock.unlock();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_rejected_until_the_first_is_dropped() {
        let path = std::env::temp_dir().join(format!("oslira-state-{}", uuid::Uuid::new_v4()));
        let first = StateDir::acquire(&path).unwrap();
        assert_eq!(owner(&path), Some(std::process::id()));
        assert!(StateDir::acquire(&path).is_err());
        drop(first);
        assert_eq!(owner(&path), None);
        assert!(StateDir::acquire(&path).is_ok());
        fs::remove_dir_all(&path).unwrap();
    }
}
