//! What a business profile is made of, as a creation gives all of it and a change some.

use oslira_http::{Fields, FromFields, Reader, list, number, whole, words};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use url::Url;

/// The longest texts, in characters; prompts cut at the same lengths.
const SHORT: usize = 200;
const LONG: usize = 600;
/// The longest list.
const ENTRIES: usize = 10;
const LONGEST_URL: usize = 2048;
/// More than anybody has.
const MAX_FOLLOWERS: i64 = 2_000_000_000;

/// The context pack of a new profile: what to look for in leads, and how to speak to them. Only the fields that were given, checked.
#[derive(Debug)]
pub(crate) struct NewPack(pub(crate) Map<String, Value>);

impl FromFields for NewPack {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let audience = fields.required(AUDIENCE, words(1, LONG));
        let mut pack = pack(fields);
        pack.insert(AUDIENCE.to_owned(), audience?.into());
        Some(Self(pack))
    }
}

/// What changes of a context pack: null clears a field, but for the audience, which every profile has.
#[derive(Debug)]
pub(crate) struct PackChange(pub(crate) Map<String, Value>);

impl FromFields for PackChange {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let audience = fields.present(AUDIENCE, words(1, LONG));
        let mut pack = pack(fields);
        pack.extend(audience.map(|audience| (AUDIENCE.to_owned(), audience.into())));
        Some(Self(pack))
    }
}

/// The one field of a pack that there must be.
const AUDIENCE: &str = "target_audience";

/// The other fields of a pack, as far as they were given.
fn pack(fields: &mut impl Fields) -> Map<String, Value> {
    let mut pack = Map::new();
    let mut keep = |name: &str, value: Option<Option<Value>>| {
        if let Some(value) = value {
            pack.insert(name.to_owned(), value.unwrap_or(Value::Null));
        }
    };
    for (name, most) in [
        ("industry", SHORT),
        ("offering", LONG),
        ("icp_geographic_focus", SHORT),
        ("icp_industry_niche", SHORT),
        ("brand_voice", SHORT),
        ("outreach_goals", LONG),
    ] {
        keep(name, fields.nullable(name, words(1, most)).map(|text| text.map(Value::from)));
    }
    for name in ["icp_content_themes", "selling_points"] {
        keep(name, fields.nullable(name, list(ENTRIES, words(1, SHORT))).map(|texts| texts.map(Value::from)));
    }
    let rate = fields.nullable("icp_min_engagement_rate", number(0.0, 100.0));
    keep("icp_min_engagement_rate", rate.map(|rate| rate.map(Value::from)));
    let followers = whole(0, MAX_FOLLOWERS);
    let (least, most) = (fields.nullable("icp_min_followers", followers), fields.nullable("icp_max_followers", followers));
    if let (Some(Some(least)), Some(Some(most))) = (least, most)
        && least > most
    {
        fields.fault("icp_max_followers", "expected no less than icp_min_followers");
    }
    keep("icp_min_followers", least.map(|least| least.map(Value::from)));
    keep("icp_max_followers", most.map(|most| most.map(Value::from)));
    pack
}

/// The fields of a profile beside its pack, as far as they were given.
pub(crate) fn own_fields(fields: &mut impl Fields) -> Map<String, Value> {
    let mut own = Map::new();
    let website = fields.nullable("website", WebAddress);
    let one_liner = fields.nullable("business_one_liner", words(1, 500));
    for (name, value) in [("website", website), ("business_one_liner", one_liner)] {
        if let Some(value) = value {
            own.insert(name.to_owned(), value.map_or(Value::Null, Value::from));
        }
    }
    own
}

/// Reads a web address. It is shown and given to models, never called.
struct WebAddress;

impl Reader for WebAddress {
    type Value = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let text = words(1, LONGEST_URL).read(value)?;
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(|_| text).ok_or_else(|| "expected a URL that begins with https:// or http://".to_owned())
    }

    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://", "maxLength": LONGEST_URL })
    }
}

#[cfg(test)]
mod tests {
    use oslira_http::Given;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pack_keeps_what_was_given_and_nothing_else() {
        let given = json!({ "target_audience": " studios ", "icp_min_followers": 5, "selling_points": ["fast"], "brand_voice": null });
        let pack = Given::read::<PackChange>(given).unwrap();
        let kept = json!({ "target_audience": "studios", "icp_min_followers": 5, "selling_points": ["fast"], "brand_voice": null });
        assert_eq!(Value::Object(pack.0), kept);
    }

    #[test]
    fn bounds_are_kept() {
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
            assert!(Given::read::<PackChange>(bad.clone()).is_err(), "{bad}");
        }
        assert!(Given::read::<PackChange>(json!({ "icp_min_followers": 5, "icp_max_followers": 5 })).is_ok());
        assert!(Given::read::<NewPack>(json!({ "target_audience": "x".repeat(600) })).is_ok());
        for bad in [json!({}), json!({ "target_audience": null }), json!({ "target_audience": "x".repeat(601) })] {
            assert!(Given::read::<NewPack>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_web_address_is_one() {
        assert!(WebAddress.read(&json!("https://studio.example/a?b")).is_ok());
        for bad in ["studio.example", "javascript:alert(1)", "ftp://x.example", "https://", "", "https://a b"] {
            assert!(WebAddress.read(&json!(bad)).is_err(), "{bad}");
        }
    }
}
