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
        lines.extend(lines_of_group(&client, name, since).await.with_context(|| format!("cannot read {name}"))?);
    }
    lines.sort_by_key(|line| line.timestamp);
    Ok(lines)
}

/// The emulator answers the oldest lines and no token for the next ones: these are asked for by the time at which a page ended.
async fn lines_of_group(client: &Client, group: &str, since: i64) -> Result<Vec<LogLine>> {
    let (mut lines, mut since) = (Vec::new(), since);
    loop {
        let page = client.filter_log_events().log_group_name(group).start_time(since).limit(PAGE).send().await?;
        let page: Vec<LogLine> = page.events().iter().map(line).collect();
        let full = i32::try_from(page.len()).is_ok_and(|length| length >= PAGE);
        let (Some(first), Some(last)) = (page.first().map(|line| line.timestamp), page.last().map(|line| line.timestamp)) else {
            return Ok(lines);
        };
        if !full {
            lines.extend(page);
            return Ok(lines);
        }
        if first == last {
            // All lines of an invocation bear one time, and it wrote more than a page.
            lines.extend(lines_of_moment(client, group, last).await?);
            since = last + 1;
        } else {
            lines.extend(page.into_iter().filter(|line| line.timestamp < last));
            since = last;
        }
    }
}

/// Every line of one millisecond, stream by stream.
async fn lines_of_moment(client: &Client, group: &str, moment: i64) -> Result<Vec<LogLine>> {
    let mut streams = client.describe_log_streams().log_group_name(group).into_paginator().items().send();
    let mut lines = Vec::new();
    while let Some(stream) = streams.next().await {
        let stream = stream?;
        let span = stream.first_event_timestamp().unwrap_or_default()..=stream.last_event_timestamp().unwrap_or_default();
        let Some(name) = stream.log_stream_name().filter(|_| span.contains(&moment)) else { continue };
        let events = client.get_log_events().log_group_name(group).log_stream_name(name).start_time(moment).end_time(moment + 1);
        let mut token = None;
        loop {
            let page = events.clone().start_from_head(true).limit(PAGE).set_next_token(token).send().await?;
            if page.events().is_empty() {
                break;
            }
            for event in page.events() {
                let text = event.message().unwrap_or_default().trim_end().to_owned();
                lines.push(LogLine { timestamp: moment, id: format!("{name}/{moment}/{}", lines.len()), text });
            }
            token = page.next_forward_token().map(str::to_owned);
        }
    }
    Ok(lines)
}
