use serde_json::json;

use super::*;

/// Returns a realistic answer to a question.
fn answer(call: Call, tier: Tier) -> Value {
    let judgement = json!({
        "overall_score": 72, "niche_fit_score": 80, "engagement_score": 55.0, "confidence_level": 0.75, "summary_text": " Runs a studio.\u{0} ",
        "key_strengths": ["Posts classes"], "recommended_action": "pursue"
    });
    let deep = json!({
        "audience_quality_score": 60, "content_quality_score": 70, "improvement_areas": [], "partnership_opportunities": ["A class"],
        "urgency_level": "low"
    });
    let traits = json!({"openness": 0, "conscientiousness": 100, "extraversion": 50, "agreeableness": 50, "neuroticism": 50});
    let psychology = json!({
        "psychographic_fit_score": 66, "personality_traits": traits, "decision_making_style": "intuitive", "psychological_hooks": ["Calm"],
        "outreach_strategy": "Ask about the retreat."
    });
    let parts = match (call, tier) {
        (Call::Core, Tier::Light) => vec![judgement, json!({"red_flags": []})],
        (Call::Core, _) => vec![judgement, deep],
        (Call::Psychographic, _) => vec![judgement, deep, psychology],
        (Call::Commercial, _) => {
            vec![
                json!({"budget_tier": "medium", "decision_role": "decision_maker", "buying_stage": "problem_aware", "objections": ["Time"]}),
            ]
        }
        (Call::Outreach, _) => vec![json!({"outreach_message": "Hola\nAna", "outreach_angles": ["The retreat"]})],
        (Call::Personality, _) => vec![json!({
            "disc_profile": "influence", "communication_style": "direct", "motivation_drivers": ["Craft"], "behavior_patterns": ["Daily"],
            "content_authenticity": "human_authentic", "data_confidence": "high"
        })],
    };
    Value::Object(parts.into_iter().flat_map(|part| part.as_object().cloned().unwrap()).collect())
}

fn answers(tier: Tier) -> BTreeMap<String, Value> {
    tier.calls().iter().map(|call| (call.to_string(), answer(*call, tier))).collect()
}

/// Every schema within `schema`, with the path to it.
fn walk(schema: &Value, check: &mut impl FnMut(&Map<String, Value>)) {
    let object = schema.as_object().unwrap();
    check(object);
    for inner in object.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::values).chain(object.get("items")) {
        walk(inner, check);
    }
}

#[test]
fn schemas_have_only_what_both_strict_modes_accept() {
    const KEYWORDS: [&str; 8] = ["type", "enum", "properties", "required", "items", "description", "additionalProperties", "title"];
    for tier in Tier::ALL {
        for call in tier.calls() {
            let schema = schema(*call, tier);
            assert_eq!(schema["title"], format!("{tier}_{call}"));
            walk(&schema, &mut |object| {
                assert!(object.keys().all(|key| KEYWORDS.contains(&key.as_str())), "{tier} {call}: {object:?}");
                let kind = object["type"].as_str().unwrap();
                assert!(["object", "array", "string", "integer", "number"].contains(&kind));
                if kind == "object" {
                    assert_eq!(object["additionalProperties"], false);
                    let mut names: Vec<&String> = object["properties"].as_object().unwrap().keys().collect();
                    names.sort_unstable();
                    let mut required: Vec<&str> = object["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                    required.sort_unstable();
                    assert_eq!(required, names);
                }
            });
        }
    }
    let light = schema(Call::Core, Tier::Light);
    assert_eq!(light["properties"]["overall_score"]["type"], "integer");
    assert_eq!(light["properties"]["confidence_level"]["type"], "number");
    assert_eq!(light["properties"]["recommended_action"]["enum"], json!(["pursue", "maybe", "skip"]));
    assert_eq!(light["properties"]["key_strengths"]["items"]["type"], "string");
}

#[test]
fn a_realistic_answer_to_every_question_is_parsed_and_tidied() {
    for tier in Tier::ALL {
        for call in tier.calls() {
            let fields = parse(*call, tier, &answer(*call, tier)).unwrap();
            let named: Vec<String> = schema(*call, tier)["properties"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields.keys().cloned().collect::<Vec<_>>(), named);
        }
    }
    let light = parse(Call::Core, Tier::Light, &answer(Call::Core, Tier::Light)).unwrap();
    assert_eq!((&light["summary_text"], &light["engagement_score"]), (&json!("Runs a studio."), &json!(55)));
}

#[test]
fn an_invalid_field_is_named_by_its_path_and_never_by_its_text() {
    let broken = |key: &str, value: Value| {
        let mut answer = answer(Call::Core, Tier::Light);
        answer[key] = value;
        parse(Call::Core, Tier::Light, &answer).unwrap_err().to_string()
    };
    let at = |path: &str| format!("the answer to `core` does not fit its schema at `{path}`");
    for value in [json!(101), json!(-1), json!(50.5), json!("secret"), json!(null)] {
        assert_eq!(broken("overall_score", value), at("overall_score"));
    }
    for value in [json!(1.01), json!(-0.01), json!("secret")] {
        assert_eq!(broken("confidence_level", value), at("confidence_level"));
    }
    assert_eq!(broken("summary_text", json!(" \u{7}\n")), at("summary_text"));
    assert_eq!(broken("key_strengths", json!(["fine", ""])), at("key_strengths[1]"));
    assert_eq!(broken("recommended_action", json!("secret")), at("recommended_action"));
    assert_eq!(broken("secret", json!(1)), at("an unknown field"));
    assert!(parse(Call::Core, Tier::Deep, &answer(Call::Core, Tier::Light)).is_err());
    assert!(parse(Call::Outreach, Tier::Deep, &json!("text")).is_err());
}

#[test]
fn a_report_is_flat_and_a_deeper_tier_has_every_field_of_the_others() {
    let [light, deep, xray] = Tier::ALL.map(|tier| merge(tier, &answers(tier)).unwrap());
    for report in [&light, &deep, &xray] {
        let scores = (report.overall_score, report.niche_fit_score, report.engagement_score, report.confidence_level);
        assert_eq!((scores, report.summary_text.as_str()), ((72, 80, 55, 0.75), "Runs a studio."));
    }
    assert_eq!((light.fields.len(), deep.fields.len(), xray.fields.len()), (8, 20, 29));
    assert!(deep.fields.keys().all(|key| xray.fields.contains_key(key)));
    assert_eq!(xray.fields["personality_traits"]["conscientiousness"], 100);
}

#[test]
fn no_two_questions_of_a_tier_have_the_same_field() {
    for tier in Tier::ALL {
        let named: usize = tier.calls().iter().map(|call| schema(*call, tier)["properties"].as_object().unwrap().len()).sum();
        assert_eq!(merge(tier, &answers(tier)).unwrap().fields.len(), named);
    }
}

#[test]
fn a_report_needs_every_answer() {
    let mut deep = answers(Tier::Deep);
    deep.remove("outreach");
    let missing = merge(Tier::Deep, &deep).unwrap_err();
    assert_eq!(
        (&missing, missing.to_string().as_str()),
        (&InvalidOutput::Missing(Call::Outreach), "the question `outreach` has no answer")
    );
    deep.insert("outreach".to_owned(), json!({}));
    assert!(matches!(merge(Tier::Deep, &deep), Err(InvalidOutput::Broken { call: Call::Outreach, .. })));
}

#[test]
fn values_convert_to_plain_numbers_and_texts() {
    let score = Score::try_from(72.0).unwrap();
    assert_eq!((u8::from(score), i16::from(score)), (72, 72));
    assert_eq!(f64::from(Confidence::try_from(0.5).unwrap()).to_string(), "0.5");
    assert_eq!(Score::try_from(f64::NAN), Err("a whole number from 0 to 100"));
    assert!(Confidence::try_from(f64::NAN).is_err());
    assert_eq!(String::from(Text::try_from(" a ".to_owned()).unwrap()), "a");
}
