//! What the functions wrote, from CloudWatch Logs.

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;

/// A line and when it was written, in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The event's identifier.
    pub id: String,
    /// The text, without its line end.
    pub text: String,
}

/// The most that one request answers.
const PAGE: i32 = 10_000;

fn line(event: &FilteredLogEvent) -> LogLine {
    LogLine {
        timestamp: event.timestamp().unwrap_or_default(),
        id: event.event_id().unwrap_or_default().to_owned(),
        text: event.message().unwrap_or_default().trim_end().to_owned(),
    }
}

/// The lines of one function, or of every log group, in the order of their times.
///
/// # Errors
/// When the emulator does not answer.
pub async fn lines(config: &SdkConfig, function_name: Option<&str>, since: i64) -> Result<Vec<LogLine>> {
    let client = Client::new(config);
    let prefix = function_name.map_or_else(|| "/".to_owned(), |name| format!("/aws/lambda/{name}"));
    let mut groups = client.describe_log_groups().log_group_name_prefix(prefix).into_paginator().items().send();
    let mut lines = Vec::new();
    while let Some(group) = groups.next().await {
        let group = group.context("cannot list the log groups")?;
        let Some(name) = group.log_group_name() else { continue };
        if function_name.is_some_and(|function| name != format!("/aws/lambda/{function}")) {
            continue;
        }
        // The emulator answers the oldest ones and no token for the next: asked for by the time at which the last page ended.
        let mut since = since;
        loop {
            let page = client.filter_log_events().log_group_name(name).start_time(since).limit(PAGE).send().await;
            let page: Vec<LogLine> = page.with_context(|| format!("cannot read {name}"))?.events().iter().map(line).collect();
            let next = page
                .last()
                .map(|last| last.timestamp)
                .filter(|last| i32::try_from(page.len()).is_ok_and(|length| length >= PAGE) && *last > since);
            lines.extend(page.into_iter().filter(|line| next.is_none_or(|next| line.timestamp < next)));
            match next {
                Some(next) => since = next,
                None => break,
            }
        }
    }
    lines.sort_by_key(|line| line.timestamp);
    Ok(lines)
}
