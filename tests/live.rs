//! Live mode, with a second sandbox in the place of the real vendors. It accepts other keys than the stack's own sandbox.

use std::sync::Arc;
use std::time::Duration;

use local::{Live, Options, Stack};
use sandbox::Credentials;

use crate::harness::{Value, World, json, stack_test, until};

const KEYS: [&str; 2] = ["apify_real_token", "sk-real-openai"];

#[stack_test(alone)]
async fn with_keys_only_the_real_vendors_are_called(world: Arc<World>) {
    let credentials = Credentials { apify: KEYS[0].to_owned(), openai: KEYS[1].to_owned(), ..Credentials::default() };
    let vendors = sandbox::serve(sandbox::Options { credentials, ..sandbox::Options::default() }).await.unwrap();
    let base = &vendors.base_url;
    let given = |name: &str| match name {
        "APIFY_TOKEN" => Some(KEYS[0].to_owned()),
        "APIFY_BASE_URL" => Some(format!("{base}/apify")),
        "OPENAI_API_KEY" => Some(KEYS[1].to_owned()),
        "OPENAI_BASE_URL" => Some(format!("{base}/openai/v1")),
        "OPENAI_API" => Some("chat".to_owned()),
        _ => None,
    };
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut options = Options::new(root, world.stack.state_dir().with_extension("live"));
    options.live = Some(Live::read(given).unwrap());
    let stack = Stack::start(options).await.unwrap();
    let demo = stack.create_account(5).await.unwrap();
    let http = &world.http;
    let url = |path: &str| format!("{}{path}", stack.info().api);

    let body = json!({"username": "livelead", "businessProfileId": demo.business_profile_id, "analysisType": "light"});
    let started = http.post(url("/api/leads/analyze")).bearer_auth(&demo.token).json(&body).send().await.unwrap();
    let started: Value = started.json().await.unwrap();
    let progress = url(started["data"]["progress_url"].as_str().unwrap_or_else(|| panic!("{started}")));
    let ended = until("the run's end", Duration::from_mins(2), || async {
        let answer: Value = http.get(&progress).bearer_auth(&demo.token).send().await.ok()?.json().await.ok()?;
        (!answer["data"]["completed_at"].is_null()).then_some(answer)
    })
    .await;
    assert_eq!(ended["data"]["status"], "completed", "{ended}");

    // A wrong key would have been refused, so these calls had the right one.
    let calls = async |sandbox: &str, vendor: &str| -> Vec<Value> {
        let url = format!("{sandbox}/_control/calls?vendor={vendor}&match=livelead");
        http.get(url).send().await.unwrap().json().await.unwrap()
    };
    let asked = calls(base, "openai").await;
    assert_eq!(asked.iter().map(|call| (&call["op"], &call["status"])).collect::<Vec<_>>(), [(&json!("chat"), &json!(200))]);
    assert!(!calls(base, "apify").await.is_empty());
    for vendor in ["apify", "openai", "anthropic"] {
        assert_eq!(calls(&stack.info().sandbox, vendor).await, Vec::<Value>::new(), "{vendor}");
    }

    // No key is in a log, in a file of the stack, or among the arguments and variables of its processes.
    let has_key = |text: &[u8]| KEYS.iter().any(|key| text.windows(key.len()).any(|part| part == key.as_bytes()));
    let logged = stack.log_lines(None).await.unwrap();
    assert!(!logged.is_empty() && !logged.iter().any(|line| has_key(line.as_bytes())));
    for file in std::fs::read_dir(stack.state_dir()).unwrap().filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()) {
        assert!(!has_key(&std::fs::read(&file).unwrap()), "{}", file.display());
    }
    let pids = stack.function_pids("analyze");
    assert!(!pids.is_empty());
    for pid in pids {
        for name in ["cmdline", "environ"] {
            assert!(!has_key(&std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default()), "{name}");
        }
    }
    stack.stop().await;
}
