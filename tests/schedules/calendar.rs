//! Periods of a calendar month: the database's arithmetic, compared with a second implementation.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan, tz::TimeZone};

use crate::harness::{World, stack_test};

/// Returns start and end of the period that contains `at`.
async fn periods(world: &World, pairs: &[(Timestamp, Timestamp)]) -> Vec<(Timestamp, Timestamp)> {
    let (anchors, instants): (Vec<Timestamp>, Vec<Timestamp>) = pairs.iter().copied().unzip();
    let sql = "SELECT p.period_start, p.period_end FROM unnest($1::timestamptz[], $2::timestamptz[]) WITH ORDINALITY AS t (anchor, at, n),
               calendar_period(t.anchor, t.at) p ORDER BY n";
    // The session's time zone has daylight saving time, which must not matter.
    let client = world.db.connect().await;
    client.batch_execute("SET timezone = 'America/New_York'").await.unwrap();
    client.query(sql, &[&anchors, &instants]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[stack_test]
async fn months_end_at_the_right_day(world: Arc<World>) {
    let table = [
        // The anchor's day is used again after a month without it.
        ("2025-01-31T10:00:00Z", "2025-02-28T09:59:59Z", "2025-01-31T10:00:00Z", "2025-02-28T10:00:00Z"),
        ("2025-01-31T10:00:00Z", "2025-02-28T10:00:00Z", "2025-02-28T10:00:00Z", "2025-03-31T10:00:00Z"),
        ("2025-01-31T10:00:00Z", "2025-03-31T10:00:00Z", "2025-03-31T10:00:00Z", "2025-04-30T10:00:00Z"),
        // Leap years are divisible by 4, but not by 100 unless by 400.
        ("2024-01-31T10:00:00Z", "2024-03-01T03:00:00Z", "2024-02-29T10:00:00Z", "2024-03-31T10:00:00Z"),
        ("2099-12-30T00:00:00Z", "2100-03-01T03:00:00Z", "2100-02-28T00:00:00Z", "2100-03-30T00:00:00Z"),
        ("1999-12-30T00:00:00Z", "2000-03-01T03:00:00Z", "2000-02-29T00:00:00Z", "2000-03-30T00:00:00Z"),
        ("2024-02-29T12:00:00Z", "2025-02-28T12:00:00Z", "2025-02-28T12:00:00Z", "2025-03-29T12:00:00Z"),
        ("2024-02-29T12:00:00Z", "2028-02-29T12:00:00Z", "2028-02-29T12:00:00Z", "2028-03-29T12:00:00Z"),
        // Across the end of a year, to the microsecond, and within the first period.
        ("2025-12-31T23:59:59.999999Z", "2026-01-31T23:59:59.999998Z", "2025-12-31T23:59:59.999999Z", "2026-01-31T23:59:59.999999Z"),
        ("2026-05-15T08:00:00Z", "2026-05-15T08:00:00Z", "2026-05-15T08:00:00Z", "2026-06-15T08:00:00Z"),
        // Changes of daylight saving time in Europe and America have no effect.
        ("2026-02-28T02:30:00Z", "2026-03-29T01:00:00Z", "2026-03-28T02:30:00Z", "2026-04-28T02:30:00Z"),
        ("2026-02-08T07:30:00Z", "2026-03-08T07:30:00Z", "2026-03-08T07:30:00Z", "2026-04-08T07:30:00Z"),
    ];
    let instant = |text: &str| text.parse::<Timestamp>().unwrap();
    let pairs: Vec<_> = table.iter().map(|(anchor, at, _, _)| (instant(anchor), instant(at))).collect();
    let expected: Vec<_> = table.iter().map(|(_, _, start, end)| (instant(start), instant(end))).collect();
    assert_eq!(periods(&world, &pairs).await, expected);
}

#[stack_test]
async fn months_equal_those_of_a_second_implementation(world: Arc<World>) {
    // Each day of four years is an anchor, with instants up to six years later.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: i64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(state >> 33).unwrap() % below
    };
    let first = "2023-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
    let mut pairs = Vec::new();
    for day in 0..1461 {
        let anchor = first + (day * 86_400 + random(86_400)).seconds();
        pairs.extend((0..4).map(|_| (anchor, anchor + random(6 * 365 * 86_400).seconds())));
        // At a boundary and just before it.
        let boundary = anchor.to_zoned(TimeZone::UTC).checked_add(random(70).months()).unwrap().timestamp();
        pairs.extend([(anchor, boundary), (anchor, (boundary - 1.microseconds()).max(anchor))]);
    }
    let oracle = |&(anchor, at): &(Timestamp, Timestamp)| {
        let start = anchor.to_zoned(TimeZone::UTC);
        let boundary = |months: i64| start.checked_add(months.months()).unwrap().timestamp();
        let months = (0..100).find(|months| boundary(months + 1) > at).unwrap();
        (boundary(months), boundary(months + 1))
    };
    let expected: Vec<_> = pairs.iter().map(oracle).collect();
    let found = periods(&world, &pairs).await;
    for ((pair, expected), found) in pairs.iter().zip(expected).zip(found) {
        assert_eq!(found, expected, "{pair:?}");
    }
}
