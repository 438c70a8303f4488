//! The functions' logs: errors during a test, and the two checks of all lines at the end.

use std::time::Duration;

use aho_corasick::AhoCorasick;
use serde_json::Value;

use super::{World, until};

impl World {
    /// Waits until a function has logged `count` lines with all of these texts since `begun`.
    pub async fn until_logged(&self, binary: &str, begun: jiff::Timestamp, texts: &[&str], count: usize) {
        let function = &self.stack.functions()[binary];
        until(&format!("{count} lines of {binary} with {texts:?}"), Duration::from_mins(2), || async {
            let lines = local::logs::lines(&self.stack.sdk_config(), Some(function), begun.as_millisecond()).await.ok()?;
            let found = lines.iter().filter(|line| texts.iter().all(|text| line.text.contains(text))).count();
            (found >= count).then_some(())
        })
        .await;
    }

    /// Returns the functions' last hundred log lines of level `ERROR` and `WARN` since `begun`.
    pub async fn errors_since(&self, begun: jiff::Timestamp) -> Vec<String> {
        let lines = local::logs::lines(&self.stack.sdk_config(), None, begun.as_millisecond()).await.unwrap_or_default();
        let bad = |text: &String| ["\"ERROR\"", "\"WARN\""].iter().any(|level| text.contains(level));
        let mut errors: Vec<String> = lines.into_iter().map(|line| line.text).filter(bad).collect();
        errors.split_off(errors.len().saturating_sub(100))
    }

    /// Returns the log lines of the functions (`logged`) and of the servers that contain a secret, a token, or the text of a profile, an
    /// analysis or a business profile.
    pub async fn leaks(&self, logged: &[String]) -> Vec<String> {
        const SECRETS: [&str; 8] = [
            "apify_sandbox_token",
            "sk-sandbox-openai",
            "sk-ant-sandbox",
            "sk_test_",
            "whsec_",
            "sandbox-jwt-secret",
            "postgres://",
            "Bearer ",
        ];
        let mut lines = logged.to_vec();
        for name in ["emulator.log", "postgres.log", "sandbox.log"] {
            let text = std::fs::read(self.stack.state_dir().join(name)).unwrap_or_default();
            lines.extend(String::from_utf8_lossy(&text).lines().map(ToOwned::to_owned));
        }
        // The beginnings of all texts that profiles, models and users wrote in this run.
        let written = "SELECT DISTINCT left(text, 24) FROM (SELECT bio AS text FROM leads UNION SELECT summary_text FROM analyses
                       UNION SELECT business_one_liner FROM business_profiles) t WHERE length(text) > 24";
        let texts = self.db.rows(written, &[]).await.into_iter().map(|row| row.get::<_, String>(0));
        // One search for all texts: there are thousands of them and hundreds of thousands of lines.
        let secrets = AhoCorasick::new(SECRETS.map(ToOwned::to_owned).into_iter().chain(texts)).expect("a searcher");
        // The start of a JSON Web Token. In the middle of a word it is a coincidence, because Stripe's ids are random letters.
        let token =
            |line: &str| line.match_indices("eyJ").any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        lines.into_iter().filter(|line| token(line) || secrets.is_match(line)).take(20).collect()
    }

    /// Returns the functions' log lines without a request id, and those of a run's tasks and requests without the run or the account.
    pub fn orphaned_lines(&self, logged: &[String]) -> Vec<String> {
        let is_orphaned = |text: &&String| {
            // The emulator's own lines are not JSON, and metrics have no level.
            let Some(line) = serde_json::from_str::<Value>(text).ok().filter(|line| line["level"].is_string()) else { return false };
            // A connection ends between requests.
            if line["message"] == "database connection ended" {
                return false;
            }
            let has =
                |name: &str| [&line[name], &line["span"][name]].iter().any(|value| value.as_str().is_some_and(|text| !text.is_empty()));
            let message = line["message"].as_str().unwrap_or_default();
            // Tests also invoke tasks with malformed input, which has no run.
            let is_valid = !line["error"].as_str().unwrap_or_default().starts_with("malformed input");
            let of_task = line["span"]["name"] == "task" && is_valid;
            let of_run = message == "completed" && line["span"]["path"].as_str().is_some_and(|path| path.contains("/run_"));
            !has("requestId") || (of_task || of_run) && !has("run_id") || of_task && !has("account_id")
        };
        logged.iter().filter(is_orphaned).take(20).cloned().collect()
    }
}
