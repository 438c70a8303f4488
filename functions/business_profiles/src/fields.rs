//! The fields of a business profile. A creation requires some of them, a change none.

use oslira_http::{Fields, FromFields, Reader, decimal, integer, list, string};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use url::Url;

/// Maximum lengths of texts in characters. Prompts truncate at the same lengths.
const SHORT: usize = 200;
const LONG: usize = 600;
/// The maximum length of lists.
const ENTRIES: usize = 10;
const URL_MAX: usize = 2048;
/// More followers than any profile has.
const MAX_FOLLOWERS: i64 = 2_000_000_000;

/// The context pack of a new business profile: what to look for in leads, and how to address them. Holds the given fields, validated.
#[derive(Debug)]
pub(crate) struct NewPack(pub(crate) Map<String, Value>);

impl FromFields for NewPack {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let audience = fields.required(AUDIENCE, string(1, LONG));
        let mut pack = pack(fields);
        pack.insert(AUDIENCE.to_owned(), audience?.into());
        Some(Self(pack))
    }
}

/// The changes of a context pack. Null clears a field, except the audience, which every business profile has.
#[derive(Debug)]
pub(crate) struct PackChange(pub(crate) Map<String, Value>);

impl FromFields for PackChange {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let audience = fields.non_null(AUDIENCE, string(1, LONG));
        let mut pack = pack(fields);
        pack.extend(audience.map(|audience| (AUDIENCE.to_owned(), audience.into())));
        Some(Self(pack))
    }
}

/// The required field of a context pack.
const AUDIENCE: &str = "target_audience";

/// Reads the optional fields of a context pack and returns those that are given.
fn pack(fields: &mut impl Fields) -> Map<String, Value> {
    let mut pack = Map::new();
    let mut insert = |name: &str, value: Option<Option<Value>>| {
        if let Some(value) = value {
            pack.insert(name.to_owned(), value.unwrap_or(Value::Null));
        }
    };
    for (name, max) in [
        ("industry", SHORT),
        ("offering", LONG),
        ("icp_geographic_focus", SHORT),
        ("icp_industry_niche", SHORT),
        ("brand_voice", SHORT),
        ("outreach_goals", LONG),
    ] {
        insert(name, fields.nullable(name, string(1, max)).map(|text| text.map(Value::from)));
    }
    for name in ["icp_content_themes", "selling_points"] {
        insert(name, fields.nullable(name, list(ENTRIES, string(1, SHORT))).map(|texts| texts.map(Value::from)));
    }
    let rate = fields.nullable("icp_min_engagement_rate", decimal(0.0, 100.0));
    insert("icp_min_engagement_rate", rate.map(|rate| rate.map(Value::from)));
    let followers = integer(0, MAX_FOLLOWERS);
    let (min, max) = (fields.nullable("icp_min_followers", followers), fields.nullable("icp_max_followers", followers));
    if let (Some(Some(min)), Some(Some(max))) = (min, max)
        && min > max
    {
        fields.fault("icp_max_followers", "expected no less than icp_min_followers");
    }
    insert("icp_min_followers", min.map(|min| min.map(Value::from)));
    insert("icp_max_followers", max.map(|max| max.map(Value::from)));
    pack
}

/// Reads the optional fields beside the context pack and returns those that are given.
pub(crate) fn own_fields(fields: &mut impl Fields) -> Map<String, Value> {
    let mut own = Map::new();
    let website = fields.nullable("website", WebAddress);
    let one_liner = fields.nullable("business_one_liner", string(1, 500));
    for (name, value) in [("website", website), ("business_one_liner", one_liner)] {
        if let Some(value) = value {
            own.insert(name.to_owned(), value.map_or(Value::Null, Value::from));
        }
    }
    own
}

/// Reads a web address. It is displayed and included in prompts, never requested.
struct WebAddress;

impl Reader for WebAddress {
    type Value = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let text = string(1, URL_MAX).read(value)?;
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(|_| text).ok_or_else(|| "expected a URL that begins with https:// or http://".to_owned())
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://", "maxLength": URL_MAX })
    }
}

#[cfg(test)]
mod tests {
    use oslira_http::RequestFields;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pack_holds_exactly_the_given_fields() {
        let given = json!({ "target_audience": " studios ", "icp_min_followers": 5, "selling_points": ["fast"], "brand_voice": null });
        let pack = RequestFields::read::<PackChange>(given).unwrap();
        let kept = json!({ "target_audience": "studios", "icp_min_followers": 5, "selling_points": ["fast"], "brand_voice": null });
        assert_eq!(Value::Object(pack.0), kept);
    }

    #[test]
    fn values_out_of_bounds_are_rejected() {
        for bad in [
            json!({ "target_audience": "" }),
            json!({ "target_audience": "x".repeat(601) }),
            json!({ "icp_min_followers": -1 }),
            json!({ "icp_min_followers": 1.5 }),
            json!({ "icp_min_followers": "5" }),
            json!({ "icp_min_followers": 6, "icp_max_followers": 5 }),
            json!({ "icp_min_engagement_rate": 100.5 }),
            json!({ "selling_points": vec!["x"; 11] }),
            json!({ "selling_points": ["x".repeat(201)] }),
            json!({ "selling_points": [1] }),
            json!({ "industry": "a\u{0}b" }),
            json!({ "other": 1 }),
        ] {
            assert!(RequestFields::read::<PackChange>(bad.clone()).is_err(), "{bad}");
        }
        assert!(RequestFields::read::<PackChange>(json!({ "icp_min_followers": 5, "icp_max_followers": 5 })).is_ok());
        assert!(RequestFields::read::<NewPack>(json!({ "target_audience": "x".repeat(600) })).is_ok());
        for bad in [json!({}), json!({ "target_audience": null }), json!({ "target_audience": "x".repeat(601) })] {
            assert!(RequestFields::read::<NewPack>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_http_addresses_are_accepted() {
        assert!(WebAddress.read(&json!("https://studio.example/a?b")).is_ok());
        for bad in ["studio.example", "javascript:alert(1)", "ftp://x.example", "https://", "", "https://a b"] {
            assert!(WebAddress.read(&json!(bad)).is_err(), "{bad}");
        }
    }
}
