//! `cargo local schemathesis`: requests made from the API's own document, by two tenants of whom each tries the other's ids.

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

/// Answers must be those of the document. (Whether an input is refused that a schema alone would let pass is for the tests of each endpoint.)
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,ignored_auth,nothing_of_a_stranger";

/// How many people a tenant has. The limits of requests stay as they are: each person is held to them.
const PEOPLE: usize = 24;
const CREDITS: u32 = 200;

/// What an answer may take before it counts as none, in seconds.
const TIMEOUT: &str = "60";

pub(crate) struct Wanted {
    /// How many requests at least.
    pub(crate) cases: usize,
    pub(crate) seed: Option<u64>,
    /// Another document than the one that the stack serves.
    pub(crate) document: Option<PathBuf>,
    /// Whether each asks with the other's tokens, as if the API mistook them: a proof that the check finds that.
    pub(crate) mistaken: bool,
}

/// One side: people with an account each, whose rows carry words of their own.
#[derive(Default, Serialize)]
struct Tenant {
    name: &'static str,
    tokens: Vec<String>,
    accounts: Vec<String>,
    profiles: Vec<String>,
    leads: Vec<String>,
    runs: Vec<String>,
    batches: Vec<String>,
    /// What no answer to the other side may hold, beside the ids.
    words: Vec<String>,
}

pub(crate) async fn schemathesis(root: &Path, info: &StackInfo, wanted: &Wanted) -> Result<()> {
    let python = local::python(root, &TOOL).await?;
    let http = super::http()?;
    let document = match &wanted.document {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => http.get(format!("{}/openapi.json", info.api)).send().await?.error_for_status()?.text().await?,
    };
    let home = root.join(".local/schemathesis");
    std::fs::create_dir_all(&home)?;
    std::fs::write(home.join("openapi.json"), &document)?;
    let operations = operations(&serde_json::from_str(&document)?);
    println!("{operations} operations, two tenants of {PEOPLE} people each, at least {} requests", wanted.cases);

    let (one, other) = tokio::try_join!(tenant(&http, info, "aurelia"), tenant(&http, info, "boreas"))?;
    let mut total = BTreeMap::new();
    let mut broken = Vec::new();
    for (own, stranger) in [(&one, &other), (&other, &one)] {
        let mut tenants = json!({ "own": own, "stranger": stranger });
        if wanted.mistaken {
            tenants["own"]["tokens"] = json!(stranger.tokens);
        }
        std::fs::write(home.join("tenants.json"), tenants.to_string())?;
        println!("\n{} asks, also for what is {}'s", own.name, stranger.name);
        let mut run = Command::new(python.with_file_name("schemathesis"));
        run.arg("run").arg(home.join("openapi.json")).args(["--url", &info.api, "--checks", CHECKS, "--request-timeout", TIMEOUT]);
        run.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--warnings", "off", "--no-color", "--workers", "2"]);
        // Half of the requests each. The other phases add some of their own.
        run.args(["--max-examples", &wanted.cases.div_ceil(2 * operations).to_string()]);
        run.args(wanted.seed.map(|seed| format!("--seed={seed}")));
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
    let answers: Vec<String> = total.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    println!("\n{requests} requests: {}", answers.join(", "));
    if wanted.mistaken {
        if broken.len() < 2 {
            bail!("a tenant who was mistaken for the other was not found");
        }
        println!("as it should be: who is mistaken for the other is found");
        return Ok(());
    }
    if !broken.is_empty() {
        bail!("promises were broken: see above");
    }
    if requests < wanted.cases {
        bail!("fewer than the {} that were wanted", wanted.cases);
    }
    println!("no answer but the document's, none of 500 and above, and nothing of a stranger");
    Ok(())
}

fn operations(document: &serde_json::Value) -> usize {
    let methods = ["get", "put", "post", "delete", "patch"];
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(_, item)| methods.iter().filter(|method| item.get(**method).is_some())).count().max(1)
}

/// People with a business profile, a lead, a run and a batch each, all of which carry the tenant's name.
async fn tenant(http: &reqwest::Client, info: &StackInfo, name: &'static str) -> Result<Tenant> {
    let mut tenant = Tenant { name, words: vec![format!("{name}_secret"), format!("{name} Secret")], ..Tenant::default() };
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(local::create_account(http, info, CREDITS).await?);
    }
    let made = try_join_all(people.iter().enumerate().map(|(number, person)| things(http, info, name, number, person))).await?;
    for (person, things) in people.into_iter().zip(made) {
        tenant.leads.push(things.lead);
        tenant.runs.push(things.run);
        tenant.batches.push(things.batch);
        tenant.profiles.push(things.profile);
        tenant.accounts.push(person.account_id);
        tenant.tokens.push(person.token);
    }
    Ok(tenant)
}

struct Things {
    profile: String,
    lead: String,
    run: String,
    batch: String,
}

async fn things(http: &reqwest::Client, info: &StackInfo, name: &str, number: usize, person: &Demo) -> Result<Things> {
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
    Ok(Things { profile: person.business_profile_id.clone(), lead, run, batch })
}
