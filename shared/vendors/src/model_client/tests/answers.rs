//! Answers that are read, mended, refused and requested again.

use super::*;

#[tokio::test]
async fn an_answer_that_does_not_fit_its_schema_is_requested_once_more_and_then_from_the_other_provider() {
    let good = light().to_string();
    for bad in
        ["", "Sure! Here it is:", "{\"overall_score\":", "{}", &good.replace("72", "720"), &good.replace("\"red_flags\"", "\"flags\"")]
    {
        let outcome = answer(vec![openai_text(bad), openai_text(&good)], vec![]).await;
        assert_eq!((outcome.result.is_ok(), outcome.attempts.len()), (true, 2), "{bad}");
        assert_eq!(outcome.openai[0].body, outcome.openai[1].body);

        let outcome = answer(vec![openai_text(bad), openai_text(bad)], vec![anthropic("end_turn", &good)]).await;
        assert_eq!((outcome.result.is_ok(), outcome.attempts.len(), outcome.anthropic.len()), (true, 3, 1), "{bad}");
        let twice = || vec![anthropic("end_turn", bad); 2];
        let outcome = answer(vec![openai_text(bad), openai_text(bad)], twice()).await;
        assert_eq!((outcome.summary().0, outcome.attempts.len()), (Some(ModelError::InvalidOutput), 4), "{bad}");
        assert!(outcome.attempts.iter().all(|attempt| attempt.cost > Some(MicroUsd::ZERO)));
        let alone = ModelSecrets { anthropic: no_key(), ..secrets() };
        let outcome = answer_with(alone, vec![openai_text(bad), openai_text(bad)], vec![]).await;
        assert_eq!((outcome.summary().0, outcome.attempts.len()), (Some(ModelError::InvalidOutput), 2), "{bad}");
    }
    // The other provider may answer later.
    let outcome = answer(vec![openai_text("{}"), openai_text("{}")], vec![anthropic_error(529, "overloaded_error", None)]).await;
    assert_eq!(outcome.summary().0, Some(ModelError::Unavailable));
}

#[tokio::test]
async fn only_the_final_answer_counts_and_it_is_found_within_fences() {
    let message = |phase: Value, text: &str| json!({"type": "message", "phase": phase, "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]});
    let good = light().to_string();
    let responses = [
        vec![message(json!("commentary"), "I look at the profile first."), message(json!("final_answer"), &good)],
        vec![message(json!("commentary"), "{\"overall_score\": 1}"), message(json!(null), &good)],
        vec![message(json!("final_answer"), &good), message(json!("commentary"), "Done.")],
        vec![message(json!(null), &format!("\u{feff}```json\n{good}\n```"))],
        vec![message(json!(null), &format!("Here it is: {good} I hope this helps."))],
    ];
    for output in responses {
        let mut body = openai_body("completed", &Value::Null);
        body["output"] = json!(output);
        let outcome = answer(vec![Script::json(200, &body)], vec![]).await;
        assert_eq!((outcome.result.map(|answer| answer.output), outcome.attempts.len()), (Ok(light()), 1), "{body}");
    }
    let mut body = openai_body("completed", &Value::Null);
    body["output"] = json!([message(json!("commentary"), &good)]);
    let outcome = answer(vec![Script::json(200, &body), openai_text(&good)], vec![]).await;
    assert_eq!((outcome.result.is_ok(), outcome.attempts.len()), (true, 2));
}

#[tokio::test]
async fn a_truncated_answer_is_requested_with_twice_the_budget() {
    let mut cut = openai_body("incomplete", &json!({"type": "output_text", "text": "{\"overall"}));
    cut["incomplete_details"] = json!({"reason": "max_output_tokens"});
    let cut = Script::json(200, &cut);
    let outcome = answer(vec![cut.clone(), openai_text(&light().to_string())], vec![]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.openai.iter().map(|sent| sent.body["max_output_tokens"].clone()).collect::<Vec<_>>(), [2500, 5000]);

    let outcome = answer_with(ModelSecrets { anthropic: no_key(), ..secrets() }, vec![cut.clone(), cut], vec![]).await;
    let summary = (Some(ModelError::InvalidOutput), vec![(OpenAi, Some("the answer did not fit into its budget")); 2]);
    assert_eq!(outcome.summary(), summary);

    for reason in ["max_tokens", "model_context_window_exceeded"] {
        let outcome = answer(vec![Script::Close], vec![anthropic(reason, "{"), anthropic("end_turn", &light().to_string())]).await;
        assert_eq!((outcome.result.is_ok(), outcome.anthropic[1].body["max_tokens"].as_u64()), (true, Some(5000)));
    }
}

#[tokio::test]
async fn a_message_with_a_link_or_another_handle_is_requested_once_more() {
    let message = |text: &str, angle: &str| openai_text(&json!({ "outreach_message": text, "outreach_angles": [angle] }).to_string());
    let setting = || Setting { call: Call::Outreach, secrets: ModelSecrets { anthropic: no_key(), ..secrets() }, ..Setting::default() };
    let good = || message("Hi @yoga.studio, how was Sunday's class?", "The class.");
    let link = "the message contains a link or an address";
    let handle = "the message contains another person's handle";
    for (bad, why) in [
        (message("Look at https://evil.example", "x"), link),
        (message("Ask @evil", "x"), handle),
        (message("Hi.", "Mention evil.com"), link),
        (message("Look at evil\u{3002}us", "x"), link),
        (message("Call +1 555 010 9999", "x"), "the message contains a telephone number"),
        (message("Hi [First Name]!", "x"), "the message contains a placeholder"),
        (message(&"Lovely class. ".repeat(100), "x"), "the message is too long"),
    ] {
        let outcome = answer_in(setting(), vec![bad.clone(), good()], vec![]).await;
        assert_eq!((outcome.result.is_ok(), outcome.attempts.len()), (true, 2));
        let outcome = answer_in(setting(), vec![bad.clone(), bad], vec![]).await;
        assert_eq!(outcome.summary(), (Some(ModelError::InvalidOutput), vec![(OpenAi, Some(why)); 2]));
    }
}

#[tokio::test]
async fn what_can_be_mended_in_an_answer_costs_no_second_one() {
    for (sent, kept) in [
        ("Hi, I am Ana from Bookable.com.", "Hi, I am Ana from Bookable.com."),
        ("Your class @ 6pm was calm. \u{1f9d8}", "Your class @ 6pm was calm."),
        ("I like your style.Me too, from St.Moritz/Davos, and ASP.NET", "I like your style. Me too, from St. Moritz/Davos, and ASP.NET"),
        ("Was #yoga fun?", "Was yoga fun?"),
    ] {
        let script = openai_text(&json!({ "outreach_message": sent, "outreach_angles": ["a", ""] }).to_string());
        let outcome = answer_in(Setting { call: Call::Outreach, ..Setting::default() }, vec![script], vec![]).await;
        assert_eq!(outcome.result.unwrap().output, json!({ "outreach_message": kept, "outreach_angles": ["a"] }));
        assert_eq!(outcome.attempts.len(), 1);
    }
    let mut sent = light();
    sent["red_flags"] = json!([""]);
    sent["summary_text"] = json!("Sells at evil.com.");
    let outcome = answer(vec![openai_text(&sent.to_string())], vec![]).await;
    let mut kept = light();
    kept["summary_text"] = json!("Sells at (link removed).");
    assert_eq!((outcome.result.unwrap().output, outcome.attempts.len()), (kept, 1));
}
