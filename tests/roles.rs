//! The permissions of each function's role. The emulator enforces the policies, so every other test shows that they suffice. These tests show that
//! they allow nothing else: each assumes every function's role, as Lambda does, and tries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};

use crate::harness::{World, stack_test};

/// Functions that report no errors. All others may read the secret `sentry`.
const SILENT: [&str; 2] = ["get_pricing", "openapi"];

/// Returns the other secrets that a function reads, by its binary.
fn secrets_of(binary: &str) -> &'static [&'static str] {
    match binary {
        "get_pricing" | "openapi" => &[],
        "health" => &["database"],
        "migrate" => &["database", "database-admin", "database-owner"],
        "stripe_webhook" => &["stripe-webhook"],
        "purchase_credits" => &["database", "stripe", "supabase-auth"],
        "stripe_events" => &["database-admin", "stripe"],
        "fetch" | "refresh_profile" | "bulk_groups" => &["apify", "database-admin"],
        "analyze" => &["anthropic", "database-admin", "openai"],
        "admit" | "save" | "compensate" | "fail_bulk_groups" | "renew_subscriptions" | "clean_up" | "report_usage" | "end_stuck_runs" => {
            &["database-admin"]
        }
        // The endpoints for users.
        _ => &["database", "supabase-auth"],
    }
}

/// The stack's configuration with the credentials that Lambda would give each function, by its binary.
async fn roles(world: &World) -> BTreeMap<String, local::SdkConfig> {
    let sts = aws_sdk_sts::Client::new(&world.stack.sdk_config());
    let mut roles = BTreeMap::new();
    for (binary, name) in world.stack.functions() {
        let function = world.lambda.get_function_configuration().function_name(name).send().await.unwrap();
        let session = sts.assume_role().role_arn(function.role().unwrap()).role_session_name(name).send().await.unwrap();
        let given = session.credentials().unwrap();
        let token = Some(given.session_token().to_owned());
        let credentials = Credentials::new(given.access_key_id(), given.secret_access_key(), token, None, "role");
        let config = world.stack.sdk_config().into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        roles.insert(binary.clone(), config);
    }
    roles
}

/// Returns the roles that may do something. All others must have been refused for that reason and no other.
async fn who<T, E, F>(world: &World, attempt: impl Fn(local::SdkConfig) -> F) -> BTreeSet<String>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, E>>,
{
    let roles = roles(world).await;
    assert!(roles.len() > 30, "{}", roles.len());
    let mut allowed = BTreeSet::new();
    for (binary, config) in roles {
        match attempt(config).await {
            Ok(_) => {
                allowed.insert(binary);
            }
            Err(error) => {
                let code = error.code().unwrap_or_default();
                assert!(["AccessDenied", "AccessDeniedException"].contains(&code), "{binary}: {code}");
            }
        }
    }
    allowed
}

fn binaries(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[stack_test]
async fn each_role_reads_its_own_secrets_and_no_others(world: Arc<World>) {
    let foreign = "oslira/elsewhere/database";
    world.secrets.create_secret().name(foreign).secret_string("{}").send().await.unwrap();
    let listed = world.secrets.list_secrets().max_results(100).send().await.unwrap();
    let names: BTreeSet<String> = listed.secret_list().iter().filter_map(|secret| secret.name.clone()).collect();
    assert!(names.len() > 7, "{names:?}");
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/DEPLOY.md")).unwrap();
    for name in &names {
        let short = name.strip_prefix("oslira/local/").unwrap_or(foreign);
        assert!(short == foreign || documented.contains(&format!("`{short}`")), "infra/DEPLOY.md does not list {short}");
        let reads = |binary: &&String| secrets_of(binary).contains(&short) || short == "sentry" && !SILENT.contains(&binary.as_str());
        let expected: BTreeSet<String> = world.stack.functions().keys().filter(reads).cloned().collect();
        let client = |config| aws_sdk_secretsmanager::Client::new(&config);
        assert_eq!(who(&world, |config| client(config).get_secret_value().secret_id(name).send()).await, expected, "{name}");
        let writers = who(&world, |config| client(config).put_secret_value().secret_id(name).secret_string("{}").send());
        assert_eq!(writers.await, BTreeSet::new(), "{name}");
    }
    world.secrets.delete_secret().secret_id(foreign).force_delete_without_recovery(true).send().await.unwrap();
}

#[stack_test]
async fn only_functions_that_scrape_may_write_the_profile_cache(world: Arc<World>) {
    let bucket = &world.stack.outputs()["ProfileBucketName"];
    let client = |config| aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
    let put = |key: &'static str| {
        who(&world, move |config| client(config).put_object().bucket(bucket).key(key).body(ByteStream::from_static(b"{}")).send())
    };
    assert_eq!(put("instagram:role.probe").await, binaries(&["bulk_groups", "fetch", "refresh_profile"]));
    assert_eq!(put("anything-else").await, BTreeSet::new());
    let delete = who(&world, |config| client(config).delete_object().bucket(bucket).key("instagram:role.probe").send());
    assert_eq!(delete.await, binaries(&["force_refresh", "refresh_profile"]));
}

#[stack_test]
async fn only_functions_that_write_progress_may_write_it(world: Arc<World>) {
    let table = &world.stack.outputs()["ProgressTableName"];
    let probe = || AttributeValue::S("run_of_a_role_probe".to_owned());
    let client = |config| aws_sdk_dynamodb::Client::new(&config);
    let update = who(&world, |config| client(config).update_item().table_name(table).key("run_id", probe()).send());
    let expected =
        ["admit", "analyze", "cancel_analysis", "cancel_bulk", "compensate", "end_stuck_runs", "fetch", "save", "start_analysis"];
    assert_eq!(update.await, binaries(&expected));
    let delete = who(&world, |config| client(config).delete_item().table_name(table).key("run_id", probe()).send());
    assert_eq!(delete.await, BTreeSet::new());
    world.dynamodb.delete_item().table_name(table).key("run_id", probe()).send().await.unwrap();
}

#[stack_test]
async fn a_role_may_not_assume_another(world: Arc<World>) {
    let function = world.lambda.get_function_configuration().function_name(&world.stack.functions()["analyze"]).send().await.unwrap();
    let role = function.role().unwrap();
    let client = |config| aws_sdk_sts::Client::new(&config);
    let assumed = who(&world, |config| client(config).assume_role().role_arn(role).role_session_name("probe").send());
    assert_eq!(assumed.await, BTreeSet::new());
}
