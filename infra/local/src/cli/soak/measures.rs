//! Measures the times of requests and the memory of the functions' processes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use local::FunctionProcess;

/// The minimum lifetime of a process whose growth counts.
const LIFE: Duration = Duration::from_mins(2);
/// The time until a process is warm.
const WARM: Duration = Duration::from_secs(30);
/// Growth beyond a fifth and a few megabytes (of a buffer that became large once) is a leak.
const GROWTH: f64 = 1.2;
const SLACK_KB: u64 = 4096;

/// The durations of requests by endpoint, for the current minute and in total.
#[derive(Default)]
pub(super) struct Latencies(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    minute: BTreeMap<&'static str, Vec<(Duration, u16)>>,
    all: BTreeMap<&'static str, Vec<(Duration, u16)>>,
    server_errors: Vec<String>,
}

impl Latencies {
    fn with<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note(&self, endpoint: &'static str, took: Duration, status: u16) {
        self.with(|noted| {
            noted.minute.entry(endpoint).or_default().push((took, status));
            noted.all.entry(endpoint).or_default().push((took, status));
        });
    }

    pub(super) fn note_server_error(&self, text: String) {
        self.with(|noted| noted.server_errors.push(text));
    }

    pub(super) fn server_errors(&self) -> Vec<String> {
        self.with(|noted| noted.server_errors.clone())
    }

    /// Returns the table of the current minute and starts the next one.
    pub(super) fn take_minute(&self) -> String {
        table(&self.with(|noted| std::mem::take(&mut noted.minute)))
    }

    pub(super) fn total(&self) -> String {
        self.with(|noted| table(&noted.all))
    }
}

fn table(endpoints: &BTreeMap<&'static str, Vec<(Duration, u16)>>) -> String {
    let mut text = format!("{:<24}{:>8}{:>9}{:>9}{:>9}  rejected   5xx\n", "", "requests", "p50 ms", "p95 ms", "p99 ms");
    for (endpoint, noted) in endpoints {
        let mut times: Vec<u128> = noted.iter().map(|(took, _)| took.as_millis()).collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let count = |from: u16, to: u16| noted.iter().filter(|(_, status)| (from..to).contains(status)).count();
        let (refused, broken) = (count(400, 500), count(500, 600));
        let _ = writeln!(text, "{endpoint:<24}{:>8}{:>9}{:>9}{:>9}{refused:>10}{broken:>6}", times.len(), at(50), at(95), at(99));
    }
    text
}

/// The observations of a process: its first and last time, and its memory when warm and last.
struct Known {
    binary: String,
    since: Instant,
    warm_kb: Option<u64>,
    last: Instant,
    last_kb: u64,
}

/// All observed processes.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<u32, Known>);

impl Memory {
    pub(super) fn look(&mut self, processes: &[FunctionProcess]) {
        let now = Instant::now();
        for process in processes {
            let fresh = || Known { binary: process.binary.clone(), since: now, warm_kb: None, last: now, last_kb: 0 };
            let known = self.0.entry(process.id).or_insert_with(fresh);
            (known.last, known.last_kb) = (now, process.resident_kb);
            if now - known.since >= WARM {
                known.warm_kb.get_or_insert(process.resident_kb);
            }
        }
    }

    /// Returns the memory of all current processes.
    pub(super) fn now(&self) -> String {
        let Some(last) = self.0.values().map(|known| known.last).max() else { return "no function runs".to_owned() };
        let living: Vec<u64> = self.0.values().filter(|known| known.last == last).map(|known| known.last_kb).collect();
        format!("{} processes of functions hold {} MB", living.len(), living.iter().sum::<u64>() / 1024)
    }

    fn long_lived(&self) -> impl Iterator<Item = (&Known, u64)> {
        self.0.values().filter(|known| known.last - known.since >= LIFE).filter_map(|known| Some((known, known.warm_kb?)))
    }

    /// Returns the growth of the processes that lived long enough, by function.
    pub(super) fn grown(&self) -> String {
        let mut functions: BTreeMap<&str, Vec<(u64, u64, Duration)>> = BTreeMap::new();
        for (known, warm) in self.long_lived() {
            functions.entry(&known.binary).or_default().push((warm, known.last_kb, known.last - known.since));
        }
        let mut text = format!("{:<24}{:>10}{:>10}{:>10}{:>12}\n", "memory, largest of", "processes", "warm MB", "last MB", "lived s");
        for (function, lives) in functions {
            let Some((warm, last, lived)) = lives.iter().max_by_key(|(warm, last, _)| last.saturating_sub(*warm)) else { continue };
            let mb = |kb: &u64| format!("{}.{}", kb / 1024, kb % 1024 * 10 / 1024);
            let _ = writeln!(text, "{function:<24}{:>10}{:>10}{:>10}{:>12}", lives.len(), mb(warm), mb(last), lived.as_secs());
        }
        text
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "kilobytes")]
    pub(super) fn has_grown(&self) -> bool {
        self.long_lived().any(|(known, warm)| known.last_kb > (warm as f64 * GROWTH) as u64 + SLACK_KB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_after_the_warm_up_counts() {
        let process = |resident_kb| FunctionProcess { id: 7, binary: "save".to_owned(), resident_kb };
        let mut memory = Memory::default();
        memory.look(&[process(8000)]);
        let known = memory.0.get_mut(&7).unwrap();
        known.since = known.since.checked_sub(LIFE).unwrap();
        memory.look(&[process(20_000)]);
        assert!(!memory.has_grown(), "it was warm at 20 MB");
        memory.look(&[process(30_000)]);
        assert!(memory.has_grown());
        assert!(memory.grown().contains("save"));
        memory.look(&[process(26_000)]);
        assert!(!memory.has_grown());
    }

    #[test]
    fn percentiles_are_of_the_minute_and_of_all() {
        let latencies = Latencies::default();
        for ms in 1..=100 {
            latencies.note("GET health", Duration::from_millis(ms), if ms == 100 { 503 } else { 200 });
        }
        let row = |text: &str| text.lines().last().unwrap().split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(row(&latencies.take_minute()), ["GET", "health", "100", "50", "95", "99", "0", "1"]);
        latencies.note("GET health", Duration::from_millis(7), 429);
        assert_eq!(row(&latencies.take_minute()), ["GET", "health", "1", "7", "7", "7", "1", "0"]);
        assert_eq!(row(&latencies.total())[2], "101");
    }
}
