//! The API's document, made of what the handlers declare: their routes and doc comments, the readers of their input, the types of their
//! responses and the errors that they respond with.
//!
//! Only tools and tests call this module. The functions do not link it.

mod builder;
mod envelope;
mod operation;
mod response;
mod route;
mod schema_collector;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::builder::Registry;
use self::operation::Operation;

pub use self::builder::OperationBuilder;
pub use self::route::Route;

/// The security scheme of users' tokens.
const TOKEN: &str = "token";
/// The security scheme of Stripe's signatures.
const SIGNATURE: &str = "stripeSignature";

/// The endpoints of the API, described by their features.
#[derive(Default)]
pub struct Api {
    registry: Registry,
    tags: Vec<Value>,
}

impl Api {
    /// Begins a feature. The endpoints that follow have its name as their tag.
    pub fn feature(&mut self, name: &str, description: &str) {
        self.tags.push(json!({ "name": name, "description": description }));
    }

    /// Describes an endpoint for users.
    pub fn user(&mut self, route: Route) -> OperationBuilder<'_> {
        self.operation(route, json!([{ (TOKEN): [] }])).for_users()
    }

    /// Describes an endpoint without authentication.
    pub fn public(&mut self, route: Route) -> OperationBuilder<'_> {
        self.operation(route, json!([])).may_fail()
    }

    /// Describes an endpoint that Stripe calls.
    pub fn stripe(&mut self, route: Route) -> OperationBuilder<'_> {
        self.operation(route, json!([{ (SIGNATURE): [] }])).may_fail()
    }

    /// Describes an endpoint without authentication that serves a file and has no dependencies.
    pub fn file(&mut self, route: Route) -> OperationBuilder<'_> {
        self.operation(route, json!([]))
    }

    fn operation(&mut self, route: Route, security: Value) -> OperationBuilder<'_> {
        let tag = self.tags.last().and_then(|tag| tag["name"].as_str()).unwrap_or_default().to_owned();
        OperationBuilder { registry: &mut self.registry, operation: Operation::new(route, tag, security) }
    }

    /// Returns the document of this `version`. `examples` holds, by route, `request` and the responses by `200` or `404 NOT_FOUND`.
    ///
    /// # Errors
    /// Returns every contradiction in the descriptions.
    pub fn document(self, version: &str, examples: &Value) -> Result<Value, Vec<String>> {
        let Registry { mut outputs, operations, mut contradictions, .. } = self.registry;
        let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        let mut schemas = BTreeMap::new();
        for operation in operations {
            let route = operation.route;
            let described = operation.into_json(&mut outputs, &mut schemas, &examples[route.to_string()]);
            if route.parameters() != path_parameters(&described) {
                contradictions.push(format!("{route}: the described parameters are not those of the path"));
            }
            if paths.entry(route.path).or_default().insert(route.method.to_lowercase(), described).is_some() {
                contradictions.push(format!("{route}: described twice"));
            }
        }
        schemas.extend(outputs.take_definitions(true));
        schemas.values_mut().for_each(envelope::close);
        schemas.values_mut().for_each(envelope::bound_scores);
        let mut paths = json!(paths);
        envelope::close(&mut paths);
        let responses = envelope::share_responses(&mut paths);
        if !contradictions.is_empty() {
            return Err(contradictions);
        }
        Ok(json!({
            "openapi": "3.1.1",
            "info": {
                "title": "Oslira",
                "version": version,
                "summary": "Judges whether an Instagram profile is a good lead for a business.",
                "description": include_str!("about.md"),
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/", "description": "The API that serves this document." }],
            "tags": self.tags,
            "paths": paths,
            "components": {
                "securitySchemes": {
                    (TOKEN): { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A Supabase Auth access token." },
                    (SIGNATURE): {
                        "type": "apiKey", "in": "header", "name": "Stripe-Signature",
                        "description": "Stripe's signature of the timestamp and the raw body: `t=…,v1=…`.",
                    },
                },
                "headers": envelope::headers(),
                "responses": responses,
                "schemas": schemas,
            },
        }))
    }
}

/// Returns the names of the path parameters of an operation object.
fn path_parameters(operation: &Value) -> Vec<&str> {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    parameters.iter().filter(|parameter| parameter["in"] == "path").filter_map(|parameter| parameter["name"].as_str()).collect()
}
