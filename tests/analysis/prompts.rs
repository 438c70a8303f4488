//! Prompts as they arrive at the models, and the rotation of the vendors\' keys.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Account, Value, World, json, stack_test, until};

const OPEN: &str = "<profile_data>";
const CLOSE: &str = "</profile_data>";

/// The parts of a prompt, whichever provider was sent it: instructions, business, profile.
fn parts(body: &str) -> [String; 3] {
    let body: Value = body.parse().expect("a JSON request");
    let count = |list: &str| body[list].as_array().map(Vec::len);
    let parts = if body.get("instructions").is_some() {
        assert_eq!((count("input"), &body["input"][0]["role"], &body["store"]), (Some(1), &json!("user"), &json!(false)));
        [&body["instructions"], &body["input"][0]["content"][0]["text"], &body["input"][0]["content"][1]["text"]]
    } else {
        assert_eq!((count("system"), count("messages")), (Some(1), Some(1)));
        [&body["system"][0]["text"], &body["messages"][0]["content"][0]["text"], &body["messages"][0]["content"][1]["text"]]
    };
    parts.map(|part| part.as_str().expect("a text").to_owned())
}

/// The prompts of a LIGHT run of `handle`, as `vendor` received them.
async fn prompts(account: &Account, vendor: &str, handle: &str) -> Vec<[String; 3]> {
    let ended = account.run(handle, "light").await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    let mut prompts = Vec::new();
    for call in account.world.calls(vendor, handle).await {
        prompts.push(parts(&account.world.call_body(&call).await));
    }
    prompts
}

#[stack_test]
async fn what_a_hostile_profile_says_stays_within_its_fence(world: Arc<World>) {
    let account = world.account(2).await;
    let usual = prompts(&account, "openai", &world.handle("harmless")).await.remove(0);
    for provider in ["openai", "anthropic"] {
        let account = world.account(1).await;
        let handle = world.handle("hostile");
        if provider == "anthropic" {
            world.fault("openai", &handle, None, json!({ "kind": "status", "status": 503 })).await;
        }
        let sent = prompts(&account, provider, &handle).await;
        let [[instructions, business, profile]] = &sent[..] else { panic!("one call: {sent:?}") };
        // Nothing outside of the fence depends on the profile.
        assert_eq!(instructions, &usual[0]);
        let (before, inner) = profile.split_once(OPEN).expect("a fence");
        let (inner, after) = inner.rsplit_once(CLOSE).expect("a fence");
        assert_eq!((before, after), ("", usual[2].rsplit_once(CLOSE).expect("a fence").1));
        assert!(!inner.contains(['<', '>']), "{inner}");
        let data: Value = inner.parse().expect("JSON within the fence");
        assert_eq!(data["username"], json!(handle));
        let mut said: Vec<&str> =
            data["latest_posts"].as_array().expect("posts").iter().filter_map(|post| post["caption"].as_str()).collect();
        said.push(data["bio"].as_str().expect("a bio"));
        assert_eq!(said.len(), 7, "the bio and six posts");
        // It does try.
        assert!(said.iter().any(|text| text.contains("</profile>")) && said.iter().any(|text| text.contains("SYSTEM")), "{said:?}");
        for text in said {
            assert!(!instructions.contains(text) && !business.contains(text), "{text}");
            assert!(text.chars().count() <= 400, "{text}");
        }
        assert!(!instructions.contains(&handle) && !business.contains(&handle));
    }
}

#[stack_test]
async fn a_business_pays_for_its_own_words_once(world: Arc<World>) {
    let (account, other) = (world.account(2).await, world.account(1).await);
    let handles = [(); 3].map(|()| world.handle("prefix"));
    let first = prompts(&account, "openai", &handles[0]).await.remove(0);
    let second = prompts(&account, "openai", &handles[1]).await.remove(0);
    let foreign = prompts(&other, "openai", &handles[2]).await.remove(0);
    assert_eq!(first[..2], second[..2], "instructions and business are the same to the letter");
    assert_ne!(first[2], second[2]);
    assert_eq!(first[0], foreign[0]);
    let mut keys = Vec::new();
    let mut cached = Vec::new();
    for handle in &handles {
        let call = world.calls("openai", handle).await.remove(0);
        let body: Value = world.call_body(&call).await.parse().expect("JSON");
        keys.push(body["prompt_cache_key"].clone());
        cached.push(call["tokens"]["cached"].as_i64().expect("tokens"));
        let sql = "SELECT l.cached_input_tokens FROM ai_usage_logs l JOIN analyses a USING (run_id) WHERE a.username = $1 AND l.provider = 'openai'";
        assert_eq!(world.db.value::<i64>(sql, &[handle]).await, cached.last().copied());
    }
    assert_eq!(keys, [json!(account.business_profile_id), json!(account.business_profile_id), json!(other.business_profile_id)]);
    assert_eq!((cached[0], cached[2]), (0, 0), "{cached:?}");
    let stable = i64::try_from(first[0].chars().count() / 4).expect("a number");
    assert!(cached[1] >= 1024 && cached[1] + 128 >= stable, "{cached:?} of {stable}");
}

#[stack_test(alone)]
async fn vendors_keys_are_rotated_under_a_running_analysis(world: Arc<World>) {
    let account = world.account(5).await;
    // Processes that know the old keys.
    assert_eq!(account.run(&world.handle("before"), "deep").await.status(), "completed");
    let handle = world.handle("rotated");
    // Polls follow for as long as this, so that one of them comes after the rotation, however long that takes.
    world.slow_scrape(&handle, 12_000).await;
    let run_id = account.start(&handle, "light").await;
    let polls = async |outcome: &str| {
        let calls = world.calls("apify", &handle).await;
        calls.iter().any(|call| call["op"] == "poll" && call["outcome"] == outcome).then_some(())
    };
    until("the first poll of the Actor run", Duration::from_mins(1), || polls("open")).await;
    // Long enough to be found in a log.
    world.rotate_vendor_keys(["apify_sandbox_token_two", "sk-sandbox-openai-two", "sk-ant-sandbox-two"]).await;
    let ended = account.ended(&run_id).await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    // Which request met the refusal of the old token is open: costs of other Actor runs are read with the same one meanwhile.
    assert_eq!(world.calls("apify", &handle).await.iter().filter(|call| call["op"] == "start").count(), 1, "no second Actor run was paid");
    let outcomes: Vec<Value> = world.calls("openai", &handle).await.iter().map(|call| call["outcome"].clone()).collect();
    assert!(outcomes == ["unauthorized", "ok"] || outcomes == ["ok"], "{outcomes:?}");
    assert!(world.calls("anthropic", &handle).await.is_empty(), "a fresh key was enough");
    let result = account.result(&run_id).await.data(200);
    assert_eq!((&result["model_used"], result["actual_cost_micro_usd"].as_i64()), (&json!("gpt-6-luna"), Some(world.bill(&handle).await)));
    assert_eq!(account.entries(&run_id).await, [("analysis".to_owned(), -1)]);
    // Back again, at once; and processes that know the keys in between go, so that no other test meets them.
    world.rotate_vendor_keys(["apify_sandbox_token", "sk-sandbox-openai", "sk-ant-sandbox"]).await;
    world.kill_function("fetch").await;
    world.kill_function("analyze").await;
    assert_eq!(account.run(&world.handle("after"), "light").await.status(), "completed");
    assert_eq!(account.balance().await, 0);
}
