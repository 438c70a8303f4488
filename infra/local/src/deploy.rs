//! The deployment of the template through CloudFormation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::DisplayErrorContext;
use aws_sdk_cloudformation::types::{Capability, Parameter, StackStatus, Tag, TemplateStage};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use serde_json::Value;

use crate::emulator::REGION;
use crate::progress::Phase;
use crate::template::{BUCKET, Template};

const STACK: &str = "oslira-local";

/// The template's name in the bucket.
const TEMPLATE: &str = "template.json";

/// The identifier of the API. Fixed, so that its address is the same after every start.
const API_ID: &str = "oslira";

/// The result of a deployment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deployment {
    /// The template after SAM's transformation.
    pub(crate) processed: Value,
    /// Physical names by logical names.
    pub(crate) resources: BTreeMap<String, String>,
    /// Names of the deployed functions by their binaries.
    pub(crate) functions: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) api_id: String,
    pub(crate) state_machine_arn: String,
}

/// Uploads the packages and creates the stack.
pub(crate) async fn deploy(config: &SdkConfig, template: &Template, phase: &Phase) -> Result<Deployment> {
    upload(config, template).await?;
    // A request is limited to a template of 51,200 bytes, an object in a bucket to a megabyte.
    let url = format!("{}/{BUCKET}/{TEMPLATE}", config.endpoint_url().context("no address of the emulator")?);
    let client = Client::new(config);
    let given =
        template.parameters.iter().map(|(name, value)| Parameter::builder().parameter_key(name).parameter_value(value).build()).collect();
    client
        .create_stack()
        .stack_name(STACK)
        .template_url(url)
        .set_parameters(Some(given))
        .capabilities(Capability::CapabilityIam)
        .capabilities(Capability::CapabilityNamedIam)
        .capabilities(Capability::CapabilityAutoExpand)
        .tags(Tag::builder().key("ms-custom-id").value(API_ID).build())
        .send()
        .await
        .map_err(|error| anyhow::anyhow!("the template was rejected: {}", DisplayErrorContext(error)))?;
    let outputs = wait(&client, phase).await?;
    let processed = client.get_template().stack_name(STACK).template_stage(TemplateStage::Processed).send().await?;
    let processed: Value = serde_json::from_str(processed.template_body().context("no processed template")?)?;
    let declared = processed["Parameters"].as_object().into_iter().flatten();
    let defaults = declared.filter_map(|(name, parameter)| Some((name.clone(), parameter["Default"].as_str()?.to_owned())));
    let parameters = defaults.chain(template.parameters.clone()).collect();
    let mut deployment = Deployment { processed, outputs, parameters, ..Deployment::default() };
    let described = client.describe_stack_resources().stack_name(STACK).send().await?;
    for resource in described.stack_resources() {
        let (Some(logical), Some(physical)) = (resource.logical_resource_id(), resource.physical_resource_id()) else { continue };
        match resource.resource_type() {
            Some("AWS::ApiGatewayV2::Api") => physical.clone_into(&mut deployment.api_id),
            Some("AWS::StepFunctions::StateMachine") => physical.clone_into(&mut deployment.state_machine_arn),
            Some("AWS::Lambda::Function") => {
                let key = deployment.processed["Resources"][logical]["Properties"]["Code"]["S3Key"].as_str();
                if let Some(binary) = key.and_then(|key| key.strip_suffix(".zip")) {
                    deployment.functions.insert(binary.to_owned(), physical.to_owned());
                }
            }
            _ => {}
        }
        deployment.resources.insert(logical.to_owned(), physical.to_owned());
    }
    Ok(deployment)
}

async fn upload(config: &SdkConfig, template: &Template) -> Result<()> {
    let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(config).force_path_style(true).build());
    let place = CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(REGION)).build();
    s3.create_bucket().bucket(BUCKET).create_bucket_configuration(place).send().await.context("cannot create the deployment bucket")?;
    let text = (TEMPLATE, template.body.as_bytes());
    for (key, content) in template.objects.iter().map(|(key, content)| (key.as_str(), content.as_slice())).chain([text]) {
        s3.put_object()
            .bucket(BUCKET)
            .key(key)
            .body(ByteStream::from(content.to_vec()))
            .send()
            .await
            .with_context(|| format!("cannot upload {key}"))?;
    }
    Ok(())
}

/// Waits for the end of the creation and returns the outputs.
async fn wait(client: &Client, phase: &Phase) -> Result<BTreeMap<String, String>> {
    let patience = Instant::now() + Duration::from_mins(3);
    loop {
        let answer = client.describe_stacks().stack_name(STACK).send().await?;
        let stack = answer.stacks().first().context("the stack does not exist")?;
        match stack.stack_status() {
            Some(StackStatus::CreateComplete) => {
                let outputs =
                    stack.outputs().iter().filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())));
                return Ok(outputs.collect());
            }
            Some(StackStatus::CreateInProgress) if Instant::now() < patience => {}
            status => bail!("the deployment ended as {}: {}", status.map_or("unknown", StackStatus::as_str), failures(client).await?),
        }
        let resources = client
            .describe_stack_resources()
            .stack_name(STACK)
            .send()
            .await
            .map(|answer| answer.stack_resources().len())
            .unwrap_or_default();
        phase.note(format!("{resources} resources"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn failures(client: &Client) -> Result<String> {
    let events = client.describe_stack_events().stack_name(STACK).send().await?;
    let failed =
        events.stack_events().iter().filter(|event| event.resource_status().is_some_and(|status| status.as_str().ends_with("FAILED")));
    let reasons = failed.map(|event| {
        format!("{}: {}", event.logical_resource_id().unwrap_or("?"), event.resource_status_reason().unwrap_or("no reason given"))
    });
    Ok(reasons.collect::<Vec<_>>().join("; "))
}
