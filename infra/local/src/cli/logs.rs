//! `cargo local logs`: prints log lines.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use local::logs::lines;

/// How far to look back, in milliseconds. The lines of an invocation arrive together, possibly after later lines of other functions.
const LOOK_BACK: i64 = 300_000;

pub(crate) async fn logs(state_dir: &Path, function: Option<&str>, follow: bool) -> Result<()> {
    let config = super::running(state_dir)?.sdk_config();
    let functions = local::functions_of(state_dir);
    let name = match function {
        None => None,
        Some(binary) => match functions.get(binary).or_else(|| functions.get(&binary.replace('-', "_"))) {
            Some(name) => Some(name.as_str()),
            None => bail!("no function {binary}; the functions are {}", functions.into_keys().collect::<Vec<_>>().join(", ")),
        },
    };
    let (mut printed, mut newest) = (HashSet::new(), 0);
    loop {
        let mut seen = HashSet::new();
        for line in lines(&config, name, (newest - LOOK_BACK).max(0)).await? {
            newest = newest.max(line.timestamp);
            if !printed.contains(&line.id) {
                println!("{}", line.text);
            }
            seen.insert(line.id);
        }
        printed = seen;
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
