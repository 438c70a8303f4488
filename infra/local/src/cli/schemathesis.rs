//! `cargo local schemathesis`: sends requests generated from the API's document, as two tenants who try each other's ids.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use local::{Demo, PythonTool, StackInfo};
use serde::Serialize;
use serde_json::json;
use tokio::process::Command;

use super::api::Api;

const TOOL: PythonTool = PythonTool { name: "schemathesis", requirements: include_str!("../../schemathesis/requirements.txt") };

/// Responses must conform to the document. (The tests of each endpoint cover inputs that are valid by the schema and rejected nevertheless.)
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,ignored_auth,no_data_of_the_other_tenant";

/// The number of users of a tenant. The rate limits apply to each user.
const USERS: usize = 24;
const CREDITS: u32 = 200;

/// The time limit for a response, in seconds.
const TIMEOUT: &str = "60";

pub(crate) struct Options {
    /// The minimum number of requests.
    pub(crate) cases: usize,
    pub(crate) seed: Option<u64>,
    /// A file with a document to use instead of the one that the stack serves.
    pub(crate) document: Option<PathBuf>,
    /// Whether each tenant uses the other's tokens, which the check must detect.
    pub(crate) mistaken: bool,
}

/// A tenant: users with an account each, whose rows contain words of the tenant.
#[derive(Default, Serialize)]
struct Tenant {
    name: &'static str,
    tokens: Vec<String>,
    accounts: Vec<String>,
    profiles: Vec<String>,
    leads: Vec<String>,
    runs: Vec<String>,
    batches: Vec<String>,
    /// The words that no response to the other tenant may contain, besides the ids.
    words: Vec<String>,
}

pub(crate) async fn schemathesis(root: &Path, info: &StackInfo, options: &Options) -> Result<()> {
    let python = local::python(root, &TOOL).await?;
    let http = super::http()?;
    let document = match &options.document {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => http.get(format!("{}/openapi.json", info.api)).send().await?.error_for_status()?.text().await?,
    };
    let home = root.join(".local/schemathesis");
    std::fs::create_dir_all(&home)?;
    std::fs::write(home.join("openapi.json"), &document)?;
    let operations = operations(&serde_json::from_str(&document)?);
    println!("{operations} operations, two tenants of {USERS} users each, at least {} requests", options.cases);

    let (first, second) = tokio::try_join!(tenant(&http, info, "aurelia"), tenant(&http, info, "boreas"))?;
    let mut total = BTreeMap::new();
    let mut broken = Vec::new();
    for (own, other) in [(&first, &second), (&second, &first)] {
        let mut tenants = json!({ "own": own, "other": other });
        if options.mistaken {
            tenants["own"]["tokens"] = json!(other.tokens);
        }
        std::fs::write(home.join("tenants.json"), tenants.to_string())?;
        println!("\n{} sends requests, some with ids of {}", own.name, other.name);
        let mut run = Command::new(python.with_file_name("schemathesis"));
        run.arg("run").arg(home.join("openapi.json")).args(["--url", &info.api, "--checks", CHECKS, "--request-timeout", TIMEOUT]);
        run.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--warnings", "off", "--no-color", "--workers", "2"]);
        // Half of the requests for each tenant. The other phases add some of their own.
        run.args(["--max-examples", &options.cases.div_ceil(2 * operations).to_string()]);
        run.args(options.seed.map(|seed| format!("--seed={seed}")));
        run.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", root.join("infra/local/schemathesis")).current_dir(&home);
        run.env("TENANTS", home.join("tenants.json")).env("COUNTS", home.join("counts.json")).env("PYTHONDONTWRITEBYTECODE", "1");
        if !run.kill_on_drop(true).status().await?.success() {
            broken.push(own.name);
        }
        let counts: BTreeMap<String, usize> = serde_json::from_slice(&std::fs::read(home.join("counts.json"))?)?;
        for (status, count) in counts {
            *total.entry(status).or_insert(0) += count;
        }
    }
    let requests: usize = total.values().sum();
    let statuses: Vec<String> = total.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    println!("\n{requests} requests: {}", statuses.join(", "));
    if options.mistaken {
        if broken.len() < 2 {
            bail!("a tenant who was mistaken for the other was not detected");
        }
        println!("as expected: a tenant who is mistaken for the other is detected");
        return Ok(());
    }
    if !broken.is_empty() {
        bail!("checks failed: see above");
    }
    if requests < options.cases {
        bail!("fewer requests than {}", options.cases);
    }
    println!("every response conforms to the document, none is a 5xx, and none contains data of the other tenant");
    Ok(())
}

fn operations(document: &serde_json::Value) -> usize {
    let methods = ["get", "put", "post", "delete", "patch"];
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(_, item)| methods.iter().filter(|method| item.get(**method).is_some())).count().max(1)
}

/// Creates users with a business profile, a lead, a run and a batch each, all of which contain the tenant's name.
async fn tenant(http: &reqwest::Client, info: &StackInfo, name: &'static str) -> Result<Tenant> {
    let mut tenant = Tenant { name, words: vec![format!("{name}_secret"), format!("{name} Secret")], ..Tenant::default() };
    let mut users = Vec::new();
    for _ in 0..USERS {
        users.push(local::create_account(http, info, CREDITS).await?);
    }
    let made = try_join_all(users.iter().enumerate().map(|(number, person)| records(http, info, name, number, person))).await?;
    for (person, records) in users.into_iter().zip(made) {
        tenant.leads.push(records.lead);
        tenant.runs.push(records.run);
        tenant.batches.push(records.batch);
        tenant.profiles.push(records.profile);
        tenant.accounts.push(person.account_id);
        tenant.tokens.push(person.token);
    }
    Ok(tenant)
}

struct Records {
    profile: String,
    lead: String,
    run: String,
    batch: String,
}

async fn records(http: &reqwest::Client, info: &StackInfo, name: &str, number: usize, person: &Demo) -> Result<Records> {
    let api = Api { http, info, demo: person };
    let text = |value: &serde_json::Value| value.as_str().map(ToOwned::to_owned).context("an id");
    let fields =
        json!({ "business_name": format!("{name} Secret {number}"), "business_one_liner": format!("What {name} Secret {number} sells") });
    api.put(&format!("/api/business-profiles/{}", person.business_profile_id), &fields).await?;
    let run = api.start(&format!("{name}_secret_{number}"), "light").await?;
    let batch = json!({
        "usernames": [format!("{name}_secret_b{number}")], "businessProfileId": person.business_profile_id, "analysisType": "light",
    });
    let batch = text(&api.post("/api/leads/analyze/bulk", &batch, None).await?["batch_id"])?;
    let progress = format!("/api/analysis/{run}/progress");
    while !["completed", "failed", "cancelled"].contains(&api.get(&progress).await?["status"].as_str().unwrap_or_default()) {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let lead = text(&api.get(&format!("/api/analysis/{run}/result")).await?["lead_id"])?;
    Ok(Records { profile: person.business_profile_id.clone(), lead, run, batch })
}
