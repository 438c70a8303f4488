//! The business that leads are judged for, as a prompt needs it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The description of a business and of the leads it wants, written by its own user. Every text is cut to a length that bounds a prompt's
/// size, and so its price.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BusinessContext {
    /// Its name.
    pub business_name: String,
    /// Its site.
    pub website: Option<String>,
    /// A description in one sentence.
    pub one_liner: Option<String>,
    /// The people it sells to.
    pub target_audience: Option<String>,
    /// Its industry.
    pub industry: Option<String>,
    /// What it sells.
    pub offering: Option<String>,
    /// The fewest followers a good lead has.
    pub icp_min_followers: Option<i64>,
    /// The most followers a good lead has.
    pub icp_max_followers: Option<i64>,
    /// The lowest engagement rate of a good lead, in percent.
    pub icp_min_engagement_rate: Option<f64>,
    /// The subjects of a good lead's posts.
    pub icp_content_themes: Vec<String>,
    /// The region of good leads.
    pub icp_geographic_focus: Option<String>,
    /// The niche of good leads.
    pub icp_industry_niche: Option<String>,
    /// Its selling points.
    pub selling_points: Vec<String>,
    /// Its brand voice.
    pub brand_voice: Option<String>,
    /// The goal of a first message.
    pub outreach_goals: Option<String>,
}

const MAX_SHORT: usize = 200;
const MAX_LONG: usize = 600;
const MAX_LIST: usize = 10;

impl BusinessContext {
    /// Reads the context from a row of `business_profiles`. Older versions wrote the pack, a JSON document, too: a field that is missing or has
    /// an unexpected type is left out and is no error.
    pub fn from_row(business_name: &str, website: Option<&str>, one_liner: Option<&str>, pack: &Value) -> Self {
        let text = |key: &str, max: usize| pack.get(key).and_then(Value::as_str).and_then(|text| tidy(text, max));
        let count = |key: &str| pack.get(key).and_then(Value::as_i64).filter(|count| *count >= 0);
        let list = |key: &str| {
            let entries = pack.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            entries.iter().filter_map(Value::as_str).filter_map(|entry| tidy(entry, MAX_SHORT)).take(MAX_LIST).collect()
        };
        Self {
            business_name: tidy(business_name, MAX_SHORT).unwrap_or_else(|| "(unnamed)".to_owned()),
            website: website.and_then(|text| tidy(text, MAX_SHORT)),
            one_liner: one_liner.and_then(|text| tidy(text, MAX_LONG)),
            target_audience: text("target_audience", MAX_LONG),
            industry: text("industry", MAX_SHORT),
            offering: text("offering", MAX_LONG),
            icp_min_followers: count("icp_min_followers"),
            icp_max_followers: count("icp_max_followers"),
            icp_min_engagement_rate: pack.get("icp_min_engagement_rate").and_then(Value::as_f64).filter(|rate| *rate >= 0.0),
            icp_content_themes: list("icp_content_themes"),
            icp_geographic_focus: text("icp_geographic_focus", MAX_SHORT),
            icp_industry_niche: text("icp_industry_niche", MAX_SHORT),
            selling_points: list("selling_points"),
            brand_voice: text("brand_voice", MAX_SHORT),
            outreach_goals: text("outreach_goals", MAX_LONG),
        }
    }
}

/// Returns the text without surrounding blanks, cut to `max` characters. `None` if nothing is left.
fn tidy(text: &str, max: usize) -> Option<String> {
    let cut: String = text.trim().chars().take(max).collect();
    (!cut.is_empty()).then_some(cut)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_of_a_pack_is_read() {
        let pack = json!({
            "target_audience": "studio owners", "industry": "fitness", "offering": "booking software",
            "icp_min_followers": 1000, "icp_max_followers": 50000, "icp_min_engagement_rate": 1.5,
            "icp_content_themes": ["yoga", "classes"], "icp_geographic_focus": "Spain", "icp_industry_niche": "yoga",
            "selling_points": ["no fees"], "brand_voice": "warm", "outreach_goals": "a call"
        });
        let context = BusinessContext::from_row("Studio One", Some("https://studio.example"), Some("We fill classes"), &pack);
        let mut read = serde_json::to_value(&context).unwrap();
        for (key, value) in pack.as_object().unwrap() {
            assert_eq!(&read[key], value, "{key}");
        }
        assert_eq!(read["website"], "https://studio.example");
        assert_eq!(read["one_liner"], "We fill classes");
        assert_eq!(read["business_name"].take(), "Studio One");
    }

    #[test]
    fn invalid_fields_of_a_pack_are_left_out() {
        for pack in [json!(null), json!([]), json!("x"), json!({})] {
            let context = BusinessContext::from_row(" ", None, Some(""), &pack);
            assert_eq!(context, BusinessContext { business_name: "(unnamed)".to_owned(), ..BusinessContext::default() });
        }
        let pack = json!({
            "target_audience": 7, "industry": "  ", "icp_min_followers": -3, "icp_max_followers": "many",
            "icp_min_engagement_rate": -0.1, "icp_content_themes": "yoga", "selling_points": [1, "", "fast", null], "brand_voice": "warm"
        });
        let context = BusinessContext::from_row("A", None, None, &pack);
        let expected = BusinessContext {
            business_name: "A".to_owned(),
            selling_points: vec!["fast".to_owned()],
            brand_voice: Some("warm".to_owned()),
            ..BusinessContext::default()
        };
        assert_eq!(context, expected);
    }

    #[test]
    fn lengths_are_capped_in_characters() {
        let pack = json!({ "offering": "ü".repeat(5000), "selling_points": vec!["é".repeat(5000); 50] });
        let context = BusinessContext::from_row(&"ñ".repeat(5000), None, None, &pack);
        assert_eq!(context.business_name.chars().count(), MAX_SHORT);
        assert_eq!(context.offering.unwrap().chars().count(), MAX_LONG);
        assert_eq!(context.selling_points.iter().map(|point| point.chars().count()).collect::<Vec<_>>(), [MAX_SHORT; MAX_LIST]);
    }
}
