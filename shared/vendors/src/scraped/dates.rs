//! Dates of posts as the vendor writes them.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use oslira_domain::Post;
use serde_json::Value;

/// Returns a date: a text, or the seconds, milliseconds or microseconds since 1970. A text without a zone is in UTC, as all of the Actor's are.
/// `None` for a date that no post can have: 1970 stands for an unknown one.
pub(super) fn date(value: &Value, now: Timestamp) -> Option<Timestamp> {
    let is_possible = |at: &Timestamp| Post::can_be_from(*at, now);
    let read = match value {
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) => since_epoch(number, is_possible),
            Err(_) => written(text.trim()),
        },
        other => since_epoch(other.as_f64()?, is_possible),
    };
    read.filter(is_possible)
}

/// Returns the date in the unit in which it is possible. There is one at most: the units are a thousand times apart.
#[expect(clippy::cast_possible_truncation, reason = "a number that is too large becomes the largest integer, which is no date")]
fn since_epoch(number: f64, is_possible: impl Fn(&Timestamp) -> bool) -> Option<Timestamp> {
    [Unit::Second, Unit::Millisecond, Unit::Microsecond].into_iter().find_map(|unit| {
        let whole = number as i64;
        let at = match unit {
            Unit::Second => Timestamp::from_second(whole),
            Unit::Millisecond => Timestamp::from_millisecond(whole),
            _ => Timestamp::from_microsecond(whole),
        };
        at.ok().filter(&is_possible)
    })
}

fn written(text: &str) -> Option<Timestamp> {
    let utc = |text: &str| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let zoned = text.parse::<Timestamp>().ok();
    zoned.or_else(|| utc(text.trim_end_matches("UTC").trim_end())).or_else(|| Some(rfc2822::parse(text).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Option<String> {
        date(value, "2026-11-27T12:00:00Z".parse().unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn a_date_is_read_in_each_of_its_forms() {
        for (value, expected) in [
            (json!("2026-11-20T10:00:00.000Z"), "2026-11-20T10:00:00Z"),
            (json!(" 2026-11-20t10:00:00z "), "2026-11-20T10:00:00Z"),
            (json!("2026-11-20T10:00:00+09:00"), "2026-11-20T01:00:00Z"),
            (json!("2026-11-20T10:00:00+0000"), "2026-11-20T10:00:00Z"),
            (json!("2026-11-20T10:00Z"), "2026-11-20T10:00:00Z"),
            (json!("2026-11-20T10:00:00"), "2026-11-20T10:00:00Z"),
            (json!("2026-11-20 10:00:00"), "2026-11-20T10:00:00Z"),
            (json!("2026-11-20 10:00:00 UTC"), "2026-11-20T10:00:00Z"),
            (json!("2026-11-20"), "2026-11-20T00:00:00Z"),
            (json!("Fri, 20 Nov 2026 10:00:00 GMT"), "2026-11-20T10:00:00Z"),
            (json!(1_795_168_800), "2026-11-20T10:00:00Z"),
            (json!(1_795_168_800.0), "2026-11-20T10:00:00Z"),
            (json!("1795168800"), "2026-11-20T10:00:00Z"),
            (json!(1_795_168_800_000_i64), "2026-11-20T10:00:00Z"),
            (json!("1795168800000"), "2026-11-20T10:00:00Z"),
            (json!(1_795_168_800_000_000_i64), "2026-11-20T10:00:00Z"),
            // Instagram's first post.
            (json!("2010-07-16T17:26:00Z"), "2010-07-16T17:26:00Z"),
            // Clocks differ.
            (json!("2026-11-27T12:30:00Z"), "2026-11-27T12:30:00Z"),
        ] {
            assert_eq!(read(&value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn a_date_that_no_post_can_have_is_unknown() {
        for value in [
            json!(null),
            json!(""),
            json!("yesterday"),
            json!("x7"),
            json!(0),
            json!("0"),
            json!(-1),
            json!(1.5),
            json!(true),
            json!([]),
            json!("1970-01-01T00:00:00.000Z"),
            json!("0001-01-01T00:00:00Z"),
            json!("1999-12-31"),
            json!("2009-12-31T23:59:59Z"),
            json!("2026-11-27T14:00:00Z"),
            json!("2027-05-01"),
            json!("2038-01-19T03:14:07Z"),
            json!(2_147_483_647),
            json!(20_261_120),
            json!("2026"),
            json!("20.11.2026"),
            json!("11/20/2026"),
            json!(1e300),
            json!("NaN"),
            json!("inf"),
            json!("2026-13-01"),
        ] {
            assert_eq!(read(&value), None, "{value}");
        }
    }
}
