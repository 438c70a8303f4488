//! The functions' lines in CloudWatch Logs.

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The log group of all functions, as the template names it in the environment `local`.
const GROUP: &str = "/aws/lambda/oslira-local";

/// The maximum number of lines in a response.
const PAGE: i32 = 10_000;

/// A line and its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The event's identifier.
    pub id: String,
    /// The text, without its line end.
    pub text: String,
}

impl From<&FilteredLogEvent> for LogLine {
    fn from(event: &FilteredLogEvent) -> Self {
        Self {
            timestamp: event.timestamp().unwrap_or_default(),
            id: event.event_id().unwrap_or_default().to_owned(),
            text: event.message().unwrap_or_default().trim_end().to_owned(),
        }
    }
}

/// Returns the lines of one function, or of all functions, since a time in milliseconds, oldest first.
///
/// # Errors
/// Fails if the emulator does not respond.
pub async fn lines(config: &SdkConfig, function_name: Option<&str>, since: i64) -> Result<Vec<LogLine>> {
    lines_in(config, GROUP, function_name, since).await
}

/// Returns the lines of a log group, like [`lines`].
///
/// # Errors
/// Fails if the emulator does not respond.
pub async fn lines_in(config: &SdkConfig, group: &str, function_name: Option<&str>, since: i64) -> Result<Vec<LogLine>> {
    let client = Client::new(config);
    let groups = client.describe_log_groups().log_group_name_prefix(group).send().await.context("cannot list the log groups")?;
    let Some(found) = groups.log_groups().iter().find(|found| found.log_group_name() == Some(group)) else { return Ok(Vec::new()) };
    let prefixes: Vec<Option<String>> = match function_name {
        None => vec![None],
        Some(name) => {
            let first = Timestamp::from_millisecond(since.max(found.creation_time().unwrap_or_default()))?;
            days(first, Timestamp::now()).map(|day| Some(format!("{day}/{name}["))).collect()
        }
    };
    let mut lines = Vec::new();
    for prefix in prefixes {
        let streams = Streams { client: &client, group, prefix };
        lines.extend(streams.lines(since).await.with_context(|| format!("cannot read {group}"))?);
    }
    lines.sort_by_key(|line| line.timestamp);
    Ok(lines)
}

/// The dates from `first` to `last`, with which the names of streams begin.
fn days(first: Timestamp, last: Timestamp) -> impl Iterator<Item = String> {
    let date = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    let last = date(last);
    date(first).series(jiff::Span::new().days(1)).take_while(move |day| *day <= last).map(|day| day.strftime("%Y/%m/%d").to_string())
}

/// The streams of a log group whose names have a prefix, or all of them.
struct Streams<'a> {
    client: &'a Client,
    group: &'a str,
    prefix: Option<String>,
}

impl Streams<'_> {
    /// The emulator returns the oldest lines and no token for the next page. The next page is requested by the time of the last line.
    async fn lines(&self, since: i64) -> Result<Vec<LogLine>> {
        let (mut lines, mut since) = (Vec::new(), since);
        loop {
            let request = self.client.filter_log_events().log_group_name(self.group).set_log_stream_name_prefix(self.prefix.clone());
            let page = request.start_time(since).limit(PAGE).send().await?;
            let page: Vec<LogLine> = page.events().iter().map(LogLine::from).collect();
            let full = i32::try_from(page.len()).is_ok_and(|length| length >= PAGE);
            let (Some(first), Some(last)) = (page.first().map(|line| line.timestamp), page.last().map(|line| line.timestamp)) else {
                return Ok(lines);
            };
            if !full {
                lines.extend(page);
                return Ok(lines);
            }
            if first == last {
                // All lines of an invocation have the same time. This one wrote more than a page.
                lines.extend(self.lines_at(last).await?);
                since = last + 1;
            } else {
                lines.extend(page.into_iter().filter(|line| line.timestamp < last));
                since = last;
            }
        }
    }

    /// Returns every line of one millisecond, stream by stream.
    async fn lines_at(&self, moment: i64) -> Result<Vec<LogLine>> {
        let streams = self.client.describe_log_streams().log_group_name(self.group).set_log_stream_name_prefix(self.prefix.clone());
        let mut streams = streams.into_paginator().items().send();
        let mut lines = Vec::new();
        while let Some(stream) = streams.next().await {
            let stream = stream?;
            let span = stream.first_event_timestamp().unwrap_or_default()..=stream.last_event_timestamp().unwrap_or_default();
            let Some(name) = stream.log_stream_name().filter(|_| span.contains(&moment)) else { continue };
            let events = self.client.get_log_events().log_group_name(self.group).log_stream_name(name);
            let events = events.start_time(moment).end_time(moment + 1).start_from_head(true).limit(PAGE);
            let mut token = None;
            loop {
                let page = events.clone().set_next_token(token).send().await?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_every_day() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let days: Vec<String> = days(time("2026-11-30T23:59:59Z"), time("2026-12-02T00:00:00Z")).collect();
        assert_eq!(days, ["2026/11/30", "2026/12/01", "2026/12/02"]);
    }
}
