//! The parameters that every list accepts.

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::fields::Fields;
use crate::readers::{Reader, integer_param, parsed};
use crate::reply::Page;

/// `page`, `pageSize` and `asOf`.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    /// The page's number, from 1.
    pub page: i64,
    /// The number of rows of a page.
    pub page_size: i64,
    /// Lists only what existed at this time, so that pages do not shift while rows are added. Absent on the first page.
    pub as_of: Option<Timestamp>,
}

impl Paging {
    /// Reads the three parameters of a list whose pages have `default_size` rows unless requested otherwise, and at most `max_size`.
    pub fn from_fields(fields: &mut impl Fields, default_size: i64, max_size: i64) -> Option<Self> {
        let page = fields.or_default("page", integer_param(1, 1_000_000), 1);
        let page_size = fields.or_default("pageSize", integer_param(1, max_size), default_size);
        let as_of = fields.optional("asOf", AsOf);
        fields.is_valid().then_some(Self { page, page_size, as_of })
    }

    /// Returns the number of rows before this page.
    pub fn offset(&self) -> i64 {
        (self.page - 1) * self.page_size
    }

    /// Returns the page with these rows, out of `total`, read at `now`.
    pub fn page<T>(&self, rows: Vec<T>, total: i64, now: Timestamp) -> Page<T> {
        Page { rows, page: self.page, page_size: self.page_size, total, as_of: self.as_of.unwrap_or(now) }
    }
}

/// Reads `asOf`, which a client copies from a first page. Times before 1970 are rejected: no row is older, and PostgreSQL cannot store
/// some of them.
struct AsOf;

impl Reader for AsOf {
    type Value = Timestamp;

    fn read(&self, value: &Value) -> Result<Timestamp, String> {
        let time = parsed::<Timestamp>().read(value).ok().filter(|time| *time >= Timestamp::UNIX_EPOCH);
        time.ok_or_else(|| "expected an RFC 3339 time since 1970".to_owned())
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "Lists only what existed at this time, not before 1970. Pass the `asOf` of the first page so that later pages do not shift.",
        })
    }
}
