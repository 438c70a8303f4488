//! The description of one endpoint, and the operation object that is made of it.

use std::collections::BTreeMap;

use oslira_aws::limits::Limit;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::envelope;
use super::response::{Refusal, Success, SuccessBody};
use super::route::Route;

/// The description of an endpoint.
pub(super) struct Operation {
    pub(super) route: Route,
    tag: String,
    security: Value,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) success: Vec<Success>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) limits: Vec<Limit>,
}

impl Operation {
    pub(super) fn new(route: Route, tag: String, security: Value) -> Self {
        let (parameters, success, refusals, limits) = Default::default();
        Self { route, tag, security, parameters, body: None, success, refusals, limits }
    }

    /// Returns the operation object, with the recorded responses in `examples`. Adds the schemas of its errors to `schemas`.
    pub(super) fn into_json(mut self, outputs: &mut SchemaGenerator, schemas: &mut BTreeMap<String, Value>, examples: &Value) -> Value {
        let mut responses = BTreeMap::new();
        for success in &self.success {
            responses.insert(success.status, self.success_response(success, outputs, examples));
        }
        self.refusals.sort_by_key(|refusal| refusal.status);
        for refusals in self.refusals.chunk_by(|one, next| one.status == next.status) {
            responses.insert(refusals[0].status, self.error_response(refusals, outputs, schemas, examples));
        }
        let (summary, description) = self.route.summary_and_description();
        let mut operation = json!({ "operationId": self.route.operation_id, "tags": [self.tag], "summary": summary });
        if !description.is_empty() {
            operation["description"] = json!(description);
        }
        operation["security"] = self.security.clone();
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        if let Some(mut body) = self.body.take() {
            if let Some(example) = examples.get("request") {
                body["content"]["application/json"]["example"] = example.clone();
            }
            operation["requestBody"] = body;
        }
        operation["responses"] =
            responses.into_iter().map(|(status, response)| (status.to_string(), response)).collect::<Map<_, _>>().into();
        if !self.limits.is_empty() {
            let limit = |limit: &Limit| json!({ "name": limit.scope, "count": limit.count, "seconds": limit.window.as_secs() });
            operation["x-rate-limits"] = self.limits.iter().map(limit).collect();
        }
        operation
    }

    fn success_response(&self, success: &Success, outputs: &mut SchemaGenerator, examples: &Value) -> Value {
        let description = match success.status {
            201 => "Created.",
            202 => "Accepted. The work continues in the background.",
            204 => "No content.",
            304 => "Not modified.",
            _ => "OK.",
        };
        let mut response = json!({ "description": description, "headers": self.headers(success.status) });
        let schema = match &success.body {
            SuccessBody::Empty => None,
            SuccessBody::Data(data) => Some(envelope::success(data, outputs)),
            SuccessBody::Page(rows) => Some(envelope::page(rows, outputs)),
            SuccessBody::Document(schema) => {
                let header = |description: &str| json!({ "required": true, "description": description, "schema": { "type": "string" } });
                response["headers"]["ETag"] = header("The version of the document.");
                response["headers"]["Cache-Control"] = header("How long the document may be cached.");
                if let Some(schema) = schema {
                    response["content"] = json!({ "application/json": { "schema": schema } });
                }
                return response;
            }
        };
        if let Some(schema) = schema {
            let mut content = json!({ "schema": schema });
            if let Some(example) = examples.get(success.status.to_string()) {
                content["example"] = example.clone();
            }
            response["content"] = json!({ "application/json": content });
        }
        response
    }

    fn error_response(
        &self,
        refusals: &[Refusal],
        outputs: &mut SchemaGenerator,
        schemas: &mut BTreeMap<String, Value>,
        examples: &Value,
    ) -> Value {
        let status = refusals[0].status;
        let mut lines = Vec::new();
        let mut variants = Vec::new();
        let mut recorded = Map::new();
        for refusal in refusals {
            let code = refusal.code;
            lines.push(format!("`{code}`: {}", refusal.meaning));
            let name = if refusal.own_details { format!("Problem.{code}.{}", self.route.operation_id) } else { format!("Problem.{code}") };
            variants.push(json!({ "$ref": format!("#/components/schemas/{name}") }));
            let mut schema = envelope::problem(refusal, outputs);
            if !refusal.own_details {
                // All endpoints share this schema. The response's description states what the code means here.
                schema["properties"]["code"] = json!({ "const": code });
            }
            schemas.insert(name, schema);
            if let Some(example) = examples.get(format!("{status} {code}")) {
                recorded.insert(code.to_owned(), json!({ "value": example }));
            }
        }
        let schema = if variants.len() == 1 { variants.remove(0) } else { json!({ "oneOf": variants }) };
        let mut content = json!({ "schema": schema });
        if !recorded.is_empty() {
            content["examples"] = recorded.into();
        }
        json!({ "description": lines.join("\n\n"), "headers": self.headers(status), "content": { "application/json": content } })
    }

    /// Returns references to the headers of a response.
    fn headers(&self, status: u16) -> Value {
        let limited = !self.limits.is_empty() && matches!(status, 200..300 | 429);
        let names = [
            ("X-Request-Id", true),
            ("RateLimit", limited),
            ("RateLimit-Policy", limited),
            ("Retry-After", matches!(status, 409 | 425 | 429 | 503)),
            ("WWW-Authenticate", status == 401),
        ];
        let reference = |(name, _): (&str, bool)| (name.to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }));
        names.into_iter().filter(|(_, has)| *has).map(reference).collect::<Map<_, _>>().into()
    }
}
