//! The processes of a stack. Each has a mark in its environment, which its children inherit. The mark identifies the Lambda processes that the
//! emulator starts and, after a `kill -9`, every process that remains, without a list of ids.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::live::CREDENTIALS;

const MARK: &str = "OSLIRA_STACK";

/// The mark of the processes of one start: the state directory and a unique number.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    state_dir: String,
    start: String,
}

impl Mark {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.display().to_string(), start: uuid::Uuid::new_v4().simple().to_string() }
    }

    /// Adds the mark to the environment of a command.
    pub(crate) fn put(&self, command: &mut Command) {
        command.env(MARK, self.value());
    }

    fn value(&self) -> String {
        format!("{}#{}", self.state_dir, self.start)
    }

    /// Returns the processes of this start.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.value());
        having(|variable| variable == mark.as_bytes())
    }

    /// Ends the processes of earlier starts on this state directory, and waits for their end.
    pub(crate) async fn end_earlier_starts(&self) {
        let prefix = format!("{MARK}={}#", self.state_dir);
        loop {
            let left = having(|variable| variable.starts_with(prefix.as_bytes()));
            if left.is_empty() {
                return;
            }
            end(&left);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn having(accept: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let own = std::process::id();
    let has_mark = |id: &u32| fs::read(format!("/proc/{id}/environ")).is_ok_and(|environ| environ.split(|byte| *byte == 0).any(&accept));
    all().filter(|id| *id != own && has_mark(id)).collect()
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Returns the processes whose working directory this is.
pub(crate) fn working_in(directory: &Path) -> Vec<u32> {
    let Ok(directory) = directory.canonicalize() else { return Vec::new() };
    all().filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == directory)).collect()
}

/// Returns the file that a process executes. The file of a binary that was rebuilt since is reported under its old name.
pub(crate) fn executable(id: u32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{id}/exe")).ok()?;
    let text = path.to_str()?;
    Some(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(text)))
}

/// A process of a function.
#[derive(Debug, Clone)]
pub struct FunctionProcess {
    /// Its id.
    pub id: u32,
    /// The binary that it runs.
    pub binary: String,
    /// Its resident memory.
    pub resident_kb: u64,
}

/// Returns the functions' processes of a stack that may run in another process.
pub fn function_processes(state_dir: &Path) -> Vec<FunctionProcess> {
    let prefix = format!("{MARK}={}#", state_dir.display());
    let servers = ["sandbox", "local"];
    let function = |id: u32| {
        let path = executable(id)?;
        // The stack's binaries are in the state directory, and the emulator copies them from there.
        let binary = path.file_name()?.to_str()?.to_owned();
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kb = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        (path.starts_with(state_dir) && !servers.contains(&binary.as_str())).then_some(FunctionProcess { id, binary, resident_kb })
    };
    having(|variable| variable.starts_with(prefix.as_bytes())).into_iter().filter_map(function).collect()
}

/// Whether a process has ended with all of its threads: only then its parent can know.
pub fn has_ended(id: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else { return true };
    let is_zombie = status.lines().any(|line| line.starts_with("State:") && line.contains('Z'));
    is_zombie && fs::read_dir(format!("/proc/{id}/task")).is_ok_and(|threads| threads.count() <= 1)
}

/// Kills a function's process. Returns false if the process is not, or no longer, one of a function.
pub fn kill_function_process(state_dir: &Path, id: u32) -> bool {
    let is_one = function_processes(state_dir).iter().any(|process| process.id == id);
    if is_one {
        signal(id, Signal::SIGKILL);
    }
    is_one
}

/// Ends processes at once.
pub(crate) fn end(ids: &[u32]) {
    for id in ids {
        signal(*id, Signal::SIGKILL);
    }
}

pub(crate) fn signal(id: u32, signal: Signal) {
    if let Ok(id) = i32::try_from(id) {
        // Fails if the process has ended, which is the purpose.
        let _ = kill(Pid::from_raw(id), signal);
    }
}

/// A child process of the stack, with its output in a file. Dropping it ends the process.
pub(crate) struct Service {
    child: Child,
    /// The signal that ends it.
    ending: Signal,
}

impl Service {
    /// Starts the process in a group of its own: Ctrl-C in the terminal reaches only the stack, which then ends the others in order.
    pub(crate) fn start(mut command: Command, mark: &Mark, log: &Path, ending: Signal) -> Result<Self> {
        let output =
            fs::OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
        mark.put(&mut command);
        for name in CREDENTIALS {
            command.env_remove(name);
        }
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child, ending })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends the signal and waits for the end. Kills the process after ten seconds.
    pub(crate) fn stop(&mut self, ending: Signal) {
        if self.ended().is_some() {
            return;
        }
        signal(self.child.id(), ending);
        let patience = Instant::now() + Duration::from_secs(10);
        while self.ended().is_none() {
            if Instant::now() > patience {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop(self.ending);
    }
}

/// A shell that waits for the end of its input, which the kernel closes when this process ends, and then ends every process with the mark. No
/// process outlives a stack that was killed.
pub(crate) struct Watchdog {
    _input: Option<ChildStdin>,
}

const WATCH: &str = r#"
trap '' HUP INT TERM
cat > /dev/null
marked() { grep -lszFx "$1" /proc/[0-9]*/environ | sed 's|[^0-9]||g'; }
kill -INT $(marked "$1") 2> /dev/null
sleep 0.5
kill -KILL $(marked "$1") 2> /dev/null
"#;

impl Watchdog {
    pub(crate) fn start(mark: &Mark) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCH, "watchdog", &format!("{MARK}={}", mark.value())]);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        Ok(Self { _input: child.stdin.take() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(mark: &Mark) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60");
        mark.put(&mut command);
        command.spawn().unwrap()
    }

    #[test]
    fn the_watchdog_ends_only_processes_with_the_mark() {
        let (ours, others) = (Mark::new(Path::new("/tmp/a")), Mark::new(Path::new("/tmp/a")));
        let watchdog = Watchdog::start(&ours).unwrap();
        let (mut own, mut other) = (sleeper(&ours), sleeper(&others));
        while ours.processes().is_empty() || others.processes().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(ours.processes(), [own.id()]);
        drop(watchdog);
        own.wait().unwrap();
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
