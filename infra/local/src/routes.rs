//! Creates the routes of the HTTP API. SAM writes them into the API's OpenAPI body, which the emulator does not import. Each operation of the body
//! becomes an integration and a route, and the body's CORS settings are applied.

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_apigatewayv2::Client;
use aws_sdk_apigatewayv2::types::{Cors, IntegrationType};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::deploy::Deployment;
use crate::intrinsics::Scope;

/// The number of concurrent requests to the emulator.
const WIDTH: usize = 8;

/// One route of the body: `POST /path` and the function's ARN.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    key: String,
    function_arn: String,
}

/// Creates the routes and returns their keys.
pub(crate) async fn create(config: &SdkConfig, deployment: &Deployment) -> Result<Vec<String>> {
    let client = Client::new(config);
    let apis = deployment.processed["Resources"].as_object().context("the processed template has no resources")?.values();
    let Some(body) = apis.filter(|resource| resource["Type"] == "AWS::ApiGatewayV2::Api").map(|api| &api["Properties"]["Body"]).next()
    else {
        return Ok(Vec::new());
    };
    let scope = Scope { parameters: &deployment.parameters, resources: &deployment.resources };
    if let Some(cors) = body.get("x-amazon-apigateway-cors") {
        client
            .update_api()
            .api_id(&deployment.api_id)
            .cors_configuration(cors_of(&scope.resolve(cors)))
            .send()
            .await
            .context("cannot set CORS")?;
    }
    let routes = routes_of(body, &scope)?;
    let keys = routes.iter().map(|route| route.key.clone()).collect();
    stream::iter(routes).map(|route| add(&client, &deployment.api_id, route)).buffer_unordered(WIDTH).try_collect::<Vec<()>>().await?;
    Ok(keys)
}

async fn add(client: &Client, api: &str, route: Route) -> Result<()> {
    let integration = client
        .create_integration()
        .api_id(api)
        .integration_type(IntegrationType::AwsProxy)
        .integration_uri(route.function_arn)
        .payload_format_version("2.0")
        .send()
        .await
        .with_context(|| format!("cannot integrate {}", route.key))?;
    let target = format!("integrations/{}", integration.integration_id().context("an integration without an identifier")?);
    client
        .create_route()
        .api_id(api)
        .route_key(&route.key)
        .target(target)
        .send()
        .await
        .with_context(|| format!("cannot create the route {}", route.key))?;
    Ok(())
}

fn routes_of(body: &Value, scope: &Scope<'_>) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for (path, methods) in body["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let key = match (path.as_str(), method.as_str()) {
                ("/$default", _) => "$default".to_owned(),
                (path, "x-amazon-apigateway-any-method") => format!("ANY {path}"),
                (path, method) => format!("{} {path}", method.to_uppercase()),
            };
            let uri = scope.resolve(&operation["x-amazon-apigateway-integration"]["uri"]);
            // arn:aws:apigateway:…:lambda:path/2015-03-31/functions/<function's ARN>/invocations
            let arn = uri.as_str().and_then(|uri| uri.split("/functions/").nth(1)?.strip_suffix("/invocations"));
            let function_arn = arn.with_context(|| format!("{key} is not integrated with a function"))?.to_owned();
            routes.push(Route { key, function_arn });
        }
    }
    Ok(routes)
}

fn cors_of(cors: &Value) -> Cors {
    let list = |name: &str| match &cors[name] {
        // The value of a list parameter, which SAM inserts unchanged.
        Value::String(text) => Some(text.split(',').map(|value| value.trim().to_owned()).collect()),
        Value::Array(values) => Some(values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()),
        _ => None,
    };
    Cors::builder()
        .set_allow_origins(list("allowOrigins"))
        .set_allow_methods(list("allowMethods"))
        .set_allow_headers(list("allowHeaders"))
        .set_expose_headers(list("exposeHeaders"))
        .set_allow_credentials(cors["allowCredentials"].as_bool())
        .set_max_age(cors["maxAge"].as_i64().and_then(|seconds| i32::try_from(seconds).ok()))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::emulator::function_arn;

    #[test]
    fn every_method_of_the_body_becomes_a_route() {
        let uri = json!({"Fn::Sub": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Analyze.Arn}/invocations"});
        let body = json!({"paths": {"/api/leads/analyze": {"post": {"x-amazon-apigateway-integration": {"uri": uri}}}}});
        let resources = BTreeMap::from([("Analyze".to_owned(), "analyze-fn".to_owned())]);
        let scope = Scope { parameters: &BTreeMap::new(), resources: &resources };
        let expected = Route { key: "POST /api/leads/analyze".to_owned(), function_arn: function_arn("analyze-fn") };
        assert_eq!(routes_of(&body, &scope).unwrap(), [expected]);
    }
}
