//! The processes of a stack. Each carries a mark in its environment, which its children inherit: that finds the Lambda
//! processes that the emulator starts, and after a `kill -9` everything that is left over, without any list of ids.

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

/// What marks the processes of one start: the state directory and a number that no other start has.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    state_dir: String,
    start: String,
}

impl Mark {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.display().to_string(), start: uuid::Uuid::new_v4().simple().to_string() }
    }

    /// Puts the mark into the environment of what is about to be started.
    pub(crate) fn put(&self, command: &mut Command) {
        command.env(MARK, self.value());
    }

    fn value(&self) -> String {
        format!("{}#{}", self.state_dir, self.start)
    }

    /// The processes of this start.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let wanted = format!("{MARK}={}", self.value());
        having(|variable| variable == wanted.as_bytes())
    }

    /// Ends what an earlier start on this state directory left over, and waits until it is gone.
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
    let bears = |id: &u32| fs::read(format!("/proc/{id}/environ")).is_ok_and(|environ| environ.split(|byte| *byte == 0).any(&accept));
    all().filter(|id| *id != own && bears(id)).collect()
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The processes whose working directory this is.
pub(crate) fn working_in(directory: &Path) -> Vec<u32> {
    let Ok(directory) = directory.canonicalize() else { return Vec::new() };
    all().filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == directory)).collect()
}

/// The file that a process executes; a binary that was rebuilt meanwhile keeps its name.
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
    /// The memory that it holds.
    pub resident_kb: u64,
}

/// The functions' processes of a stack that may run in another process.
pub fn function_processes(state_dir: &Path) -> Vec<FunctionProcess> {
    let prefix = format!("{MARK}={}#", state_dir.display());
    let servers = ["sandbox", "local"];
    let function = |id: u32| {
        let path = executable(id)?;
        // The stack's binaries lie in its own directory, and the emulator copies them from there.
        let binary = path.file_name()?.to_str()?.to_owned();
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kb = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        (path.starts_with(state_dir) && !servers.contains(&binary.as_str())).then_some(FunctionProcess { id, binary, resident_kb })
    };
    having(|variable| variable.starts_with(prefix.as_bytes())).into_iter().filter_map(function).collect()
}

/// Kills a function's process as the machine under it might. False if it is no such process (any more).
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
        // It may have ended meanwhile; that is what was wanted.
        let _ = kill(Pid::from_raw(id), signal);
    }
}

/// A child process of the stack, with its output in a file. It ends with this value.
pub(crate) struct Service {
    child: Child,
    /// How it is asked to end.
    ending: Signal,
}

impl Service {
    /// Starts it in a process group of its own: a Ctrl-C in the terminal reaches only the stack, which then ends the rest in order.
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

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end and waits; after ten seconds it is killed.
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

/// A shell that waits for the end of its input, which the kernel closes when this process ends, and then ends every process that
/// bears the mark. So nothing outlives a stack whose process was killed.
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
    fn the_watchdog_ends_what_bears_the_mark_and_nothing_else() {
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
