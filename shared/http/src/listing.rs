//! What every list takes: which page, how long, and of what moment.

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::fields::Fields;
use crate::readers::{Reader, digits, text};
use crate::reply::Page;

/// `page`, `pageSize` and `asOf`.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    /// From 1.
    pub page: i64,
    /// How many rows.
    pub page_size: i64,
    /// Only what existed then is listed, so that pages stay in step while rows are added. Absent on the first page.
    pub as_of: Option<Timestamp>,
}

impl Paging {
    /// Reads the three, with the list's own bounds.
    pub fn from_fields(fields: &mut impl Fields, usual_size: i64, most: i64) -> Option<Self> {
        let (page, page_size) = (fields.or("page", digits(1, 1_000_000), 1), fields.or("pageSize", digits(1, most), usual_size));
        let as_of = fields.optional("asOf", Moment);
        fields.is_valid().then_some(Self { page, page_size, as_of })
    }

    /// How many rows come before this page.
    pub fn offset(&self) -> i64 {
        (self.page - 1) * self.page_size
    }

    /// The page that these rows are, out of `total`, read at `now`.
    pub fn page<T>(&self, rows: Vec<T>, total: i64, now: Timestamp) -> Page<T> {
        Page { rows, page: self.page, page_size: self.page_size, total, as_of: self.as_of.unwrap_or(now) }
    }
}

/// Reads a time. A client repeats what a first page said; times before all rows, some of which PostgreSQL cannot keep, are a mistake.
struct Moment;

impl Reader for Moment {
    type Value = Timestamp;

    fn read(&self, value: &Value) -> Result<Timestamp, String> {
        let moment = text::<Timestamp>().read(value).ok().filter(|moment| *moment >= Timestamp::UNIX_EPOCH);
        moment.ok_or_else(|| "expected an RFC 3339 time since 1970".to_owned())
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "Only what existed at this time since 1970 is listed: the `asOf` of the first page keeps the next ones in step.",
        })
    }
}
