//! Answers whose values have another form than was asked for.

use super::*;

/// Returns LIGHT's answer with some values in place of its own, as it is read.
fn read_with(changes: &Value) -> Result<Map<String, Value>, String> {
    let mut light = answer(Call::Core, Tier::Light);
    light.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    parse(Call::Core, Tier::Light, &light).map_err(|error| error.to_string())
}

#[test]
fn lists_of_any_form_are_read_and_an_entry_without_content_is_none() {
    for (list, kept) in [
        (json!(null), json!([])),
        (json!([null, "Posts"]), json!(["Posts"])),
        (json!("None"), json!([])),
        (json!("Posts classes"), json!(["Posts classes"])),
        (json!(["None", "n/a", "-", "\u{1f6a9}", "N/A."]), json!([])),
        (json!(["None", "Posts"]), json!(["Posts"])),
        (json!(["None of the posts show the owner"]), json!(["None of the posts show the owner"])),
    ] {
        let read = read_with(&json!({"key_strengths": list, "red_flags": list})).unwrap();
        assert_eq!([&read["key_strengths"], &read["red_flags"]], [&kept, &kept], "{list}");
    }
    // That there are none is a strength, and no reason for caution.
    let read = read_with(&json!({"key_strengths": ["No red flags"], "red_flags": ["No red flags identified."]})).unwrap();
    assert_eq!([&read["key_strengths"], &read["red_flags"]], [&json!(["No red flags"]), &json!([])]);
}

#[test]
fn a_lead_with_the_entry_that_it_has_no_red_flags_is_pursued() {
    for flags in [json!(["None"]), json!(["No red flags."]), json!(null), json!("n/a")] {
        let mut light = answer(Call::Core, Tier::Light);
        light["red_flags"] = flags;
        let report = merge(Tier::Light, &BTreeMap::from([("core".to_owned(), light)]), &profile()).unwrap();
        assert_eq!((&report.fields["red_flags"], &report.fields["recommended_action"]), (&json!([]), &json!("pursue")));
    }
}

#[test]
fn numbers_in_another_form_are_read_and_those_of_an_unknown_scale_are_not() {
    let score = |value: Value| read_with(&json!({ "overall_score": value })).ok().map(|read| read["overall_score"].clone());
    for (written, expected) in [
        (json!("72"), Some(72)),
        (json!("72%"), Some(72)),
        (json!("85/100"), Some(85)),
        (json!(" 72.4 "), Some(72)),
        (json!("7/10"), Some(70)),
        (json!("85 out of 100"), Some(85)),
        (json!(72.0), Some(72)),
        (json!(0), Some(0)),
        (json!(1), Some(1)),
        (json!(100), Some(100)),
        (json!(-0.0), Some(0)),
        (json!("0.5%"), None),
        (json!("85/90"), None),
        (json!("high"), None),
        (json!("-5"), None),
        (json!("inf"), None),
        (json!("1e2"), None),
        (json!("101"), None),
        (json!(""), None),
        (json!("%"), None),
        (json!(0.72), None),
        (json!(true), None),
        (json!([72]), None),
        (json!("60-70"), None),
        (json!("11/10"), None),
    ] {
        assert_eq!(score(written.clone()), expected.map(Value::from), "{written}");
    }
    let confidence = |value: Value| read_with(&json!({ "confidence_level": value })).ok().map(|read| read["confidence_level"].clone());
    for (written, expected) in [
        (json!("0.75"), Some(0.75)),
        (json!("75%"), Some(0.75)),
        (json!(75), Some(0.75)),
        (json!(100), Some(1.0)),
        (json!(1), Some(1.0)),
        (json!(0), Some(0.0)),
        (json!(8), None),
        (json!(1.5), None),
        (json!(101), None),
        (json!("high"), None),
    ] {
        assert_eq!(confidence(written.clone()), expected.map(Value::from), "{written}");
    }
}

#[test]
fn scores_from_0_to_1_are_converted_only_where_no_other_scale_fits() {
    let scores = |overall: Value, niche: Value, engagement: Value| {
        let read = read_with(&json!({"overall_score": overall, "niche_fit_score": niche, "engagement_score": engagement}))?;
        Ok::<_, String>(["overall_score", "niche_fit_score", "engagement_score"].map(|name| read[name].as_i64().unwrap()))
    };
    assert_eq!(scores(json!(0.72), json!(0.8), json!(0.555)), Ok([72, 80, 56]));
    assert_eq!(scores(json!("0.72"), json!(1), json!(0.29)), Ok([72, 100, 29]));
    assert_eq!(scores(json!(0), json!(1), json!(0)), Ok([0, 1, 0]));
    assert_eq!(scores(json!(7), json!(8), json!(6)), Ok([7, 8, 6]));
    assert_eq!(scores(json!(72.5), json!(8.5), json!(6)), Ok([73, 9, 6]));
    for (overall, niche, engagement) in [
        (json!(0.72), json!(80), json!(55)),
        (json!(0), json!(0), json!(0.5)),
        (json!(7.5), json!(8), json!(6)),
        (json!(0.72), json!("80%"), json!(0.55)),
        (json!(-0.72), json!(0.8), json!(0.55)),
    ] {
        assert!(scores(overall.clone(), niche, engagement).is_err(), "{overall}");
    }
    let mut xray = answer(Call::Psychographic, Tier::Xray);
    xray["personality_traits"] =
        json!({"openness": 0.1, "conscientiousness": 1, "extraversion": 0.5, "agreeableness": 0.5, "neuroticism": 0});
    let read = parse(Call::Psychographic, Tier::Xray, &xray).unwrap();
    assert_eq!((&read["personality_traits"]["openness"], &read["overall_score"]), (&json!(10), &json!(72)));
    xray["personality_traits"]["openness"] = json!(7.5);
    let error = parse(Call::Psychographic, Tier::Xray, &xray).unwrap_err().to_string();
    assert!(error.ends_with("at `personality_traits.openness`"), "{error}");
}

#[test]
fn words_of_any_spelling_are_read_and_no_spelling_of_the_recommendation_is_refused() {
    for (written, read) in [
        (json!("Pursue"), json!("pursue")),
        (json!("SKIP."), json!("skip")),
        (json!("contact"), json!(null)),
        (json!(null), json!(null)),
        (json!(1), json!(null)),
        (json!({"action": "pursue"}), json!(null)),
    ] {
        let fields = read_with(&json!({ "recommended_action": written })).unwrap();
        assert_eq!(fields["recommended_action"], read, "{written}");
        let merged = merge(Tier::Light, &BTreeMap::from([("core".to_owned(), Value::Object(fields))]), &profile()).unwrap();
        assert_eq!(merged.fields["recommended_action"], "pursue");
    }
    let mut light = answer(Call::Core, Tier::Light);
    light.as_object_mut().unwrap().remove("recommended_action");
    light["reasoning"] = json!("It fits.");
    let read = parse(Call::Core, Tier::Light, &light).unwrap();
    assert_eq!((&read["recommended_action"], read.get("reasoning")), (&json!(null), None));

    let mut commercial = answer(Call::Commercial, Tier::Xray);
    for (written, read) in [("Decision Maker", "decision_maker"), ("decision-maker", "decision_maker"), ("END_USER", "end_user")] {
        commercial["decision_role"] = json!(written);
        assert_eq!(parse(Call::Commercial, Tier::Xray, &commercial).unwrap()["decision_role"], read);
    }
    commercial["decision_role"] = json!(null);
    assert_eq!(parse(Call::Commercial, Tier::Xray, &commercial).unwrap()["decision_role"], "unknown");
    for wrong in [json!("owner"), json!(1), json!("")] {
        commercial["decision_role"] = wrong;
        assert!(parse(Call::Commercial, Tier::Xray, &commercial).is_err());
    }
    commercial.as_object_mut().unwrap().remove("decision_role");
    assert!(parse(Call::Commercial, Tier::Xray, &commercial).is_err());
    let mut deep = answer(Call::Core, Tier::Deep);
    deep["urgency_level"] = json!(null);
    assert!(parse(Call::Core, Tier::Deep, &deep).is_err());
}

#[test]
fn a_text_that_says_nothing_is_no_answer() {
    for text in ["", "-", "\u{1f44b}\u{2728}", "N/A", "null"] {
        assert!(read_with(&json!({ "summary_text": text })).is_err(), "{text}");
    }
}
