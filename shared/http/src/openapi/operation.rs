//! One endpoint.

use std::collections::BTreeMap;

use oslira_aws::limits::Limit;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::source::Source;
use super::{Api, envelope};
use crate::fields::{Fault, FromFields};

/// A code that an endpoint refuses with.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) meaning: String,
    pub(super) details: Option<Value>,
    /// Whether the details are of this endpoint alone.
    own_details: bool,
}

/// What an endpoint answers when all is well.
pub(super) struct Success {
    status: u16,
    /// The schema of `data`; `None` for an answer without a body, or with one of its own.
    pub(super) data: Value,
    pub(super) is_page: bool,
    /// The answer without the envelope, if it has none: its media type and schema.
    raw: Option<Value>,
}

/// An endpoint, as far as it is described.
pub(super) struct Operation {
    pub(super) source: Source,
    tag: String,
    security: Value,
    parameters: Vec<Value>,
    body: Option<Value>,
    success: Vec<Success>,
    pub(super) refusals: Vec<Refusal>,
    limits: Vec<Limit>,
}

impl Operation {
    pub(super) fn new(source: Source, tag: String, security: Value) -> Self {
        let (parameters, success, refusals, limits) = Default::default();
        Self { source, tag, security, parameters, body: None, success, refusals, limits }
    }

    /// The operation object, with the real answers in `examples`.
    pub(super) fn into_json(mut self, outputs: &mut SchemaGenerator, schemas: &mut BTreeMap<String, Value>, examples: &Value) -> Value {
        let mut responses = BTreeMap::new();
        for success in &self.success {
            responses.insert(success.status, self.answer(success, outputs, examples));
        }
        self.refusals.sort_by_key(|refusal| refusal.status);
        for refusals in self.refusals.chunk_by(|one, next| one.status == next.status) {
            responses.insert(refusals[0].status, self.refused(refusals, outputs, schemas, examples));
        }
        let Source { name, summary, description, .. } = &self.source;
        let mut operation = json!({ "operationId": name, "tags": [self.tag], "summary": summary });
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
        operation["responses"] = responses.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect::<Map<_, _>>().into();
        if !self.limits.is_empty() {
            let limit = |limit: &Limit| json!({ "name": limit.scope, "count": limit.count, "seconds": limit.window.as_secs() });
            operation["x-rate-limits"] = self.limits.iter().map(limit).collect();
        }
        operation
    }

    fn answer(&self, success: &Success, outputs: &mut SchemaGenerator, examples: &Value) -> Value {
        let mut headers = self.headers(success.status);
        let description = match success.status {
            201 => "Made.",
            202 => "Accepted; the work goes on.",
            204 => "Done.",
            304 => "It is still the same.",
            _ => "The answer.",
        };
        if let Some(raw) = &success.raw {
            let header = |description: &str| json!({ "required": true, "description": description, "schema": { "type": "string" } });
            headers["ETag"] = header("Which version it is.");
            headers["Cache-Control"] = header("How long it may be kept.");
            let mut answer = json!({ "description": description, "headers": headers });
            if !raw.is_null() {
                answer["content"] = json!({ "application/json": { "schema": raw } });
            }
            return answer;
        }
        let mut answer = json!({ "description": description, "headers": headers });
        if success.status != 204 {
            let mut content = json!({ "schema": envelope::success(success, outputs) });
            if let Some(example) = examples.get(success.status.to_string()) {
                content["example"] = example.clone();
            }
            answer["content"] = json!({ "application/json": content });
        }
        answer
    }

    fn refused(
        &self,
        refusals: &[Refusal],
        outputs: &mut SchemaGenerator,
        schemas: &mut BTreeMap<String, Value>,
        examples: &Value,
    ) -> Value {
        let status = refusals[0].status;
        let mut lines = Vec::new();
        let mut variants = Vec::new();
        let mut shown = Map::new();
        for refusal in refusals {
            let code = refusal.code;
            lines.push(format!("`{code}`: {}", refusal.meaning));
            let name = if refusal.own_details { format!("Problem.{code}.{}", self.source.name) } else { format!("Problem.{code}") };
            variants.push(json!({ "$ref": format!("#/components/schemas/{name}") }));
            let mut schema = envelope::problem(refusal, outputs);
            if !refusal.own_details {
                // One for all endpoints: what it means here stands with the answer.
                schema["properties"]["code"] = json!({ "const": code });
            }
            schemas.insert(name, schema);
            if let Some(example) = examples.get(format!("{status} {code}")) {
                shown.insert(code.to_owned(), json!({ "value": example }));
            }
        }
        let schema = if variants.len() == 1 { variants.remove(0) } else { json!({ "oneOf": variants }) };
        let mut content = json!({ "schema": schema });
        if !shown.is_empty() {
            content["examples"] = shown.into();
        }
        json!({ "description": lines.join("\n\n"), "headers": self.headers(status), "content": { "application/json": content } })
    }

    /// The headers of an answer, by reference.
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

/// Describes an endpoint, part by part.
pub struct Entry<'a> {
    pub(super) api: &'a mut Api,
    pub(super) operation: Operation,
}

impl Entry<'_> {
    /// That is all.
    pub fn end(self) {
        self.api.add(self.operation);
    }

    /// A parameter of the path.
    #[must_use]
    pub fn path<T: JsonSchema>(mut self, name: &str) -> Self {
        let schema = self.api.inputs.subschema_for::<T>();
        self.operation.parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        self.refuses(400, "VALIDATION_ERROR", "").faults()
    }

    /// The parameters of the query.
    #[must_use]
    pub fn query<T: FromFields>(mut self) -> Self {
        for field in Asked::by::<T>(&mut self.api.inputs).fields {
            let parameter = json!({ "name": field.name, "in": "query", "required": field.required, "schema": field.schema });
            self.operation.parameters.push(parameter);
        }
        self.refuses(400, "VALIDATION_ERROR", "").faults()
    }

    /// A header of the request.
    #[must_use]
    pub fn header(mut self, name: &str, schema: &Value, description: &str) -> Self {
        let parameter = json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema });
        self.operation.parameters.push(parameter);
        self
    }

    /// The JSON body.
    #[must_use]
    pub fn body<T: FromFields>(mut self) -> Self {
        let schema = Asked::by::<T>(&mut self.api.inputs).into_schema();
        self.operation.body = Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }));
        self.refuses(400, "INVALID_JSON", "The body is not JSON.")
            .refuses(400, "VALIDATION_ERROR", "")
            .faults()
            .refuses(413, "PAYLOAD_TOO_LARGE", "The body is larger than 64 KB.")
            .refuses(415, "UNSUPPORTED_MEDIA_TYPE", "The body is not `application/json`.")
    }

    /// A body that is passed on as it is.
    #[must_use]
    pub fn raw_body(mut self, schema: &Value, description: &str) -> Self {
        let content = json!({ "application/json": { "schema": schema } });
        self.operation.body = Some(json!({ "required": true, "description": description, "content": content }));
        self
    }

    /// What a field of the body or a parameter means; `pack.name` is a field of the object `pack`.
    #[must_use]
    pub fn field(mut self, name: &str, description: &str) -> Self {
        let parameter = self.operation.parameters.iter_mut().find(|parameter| parameter["name"] == name);
        let pointer = format!("/content/application~1json/schema/properties/{}", name.replace('.', "/properties/"));
        let found = parameter.or_else(|| self.operation.body.as_mut()?.pointer_mut(&pointer));
        match found {
            Some(found) => found["description"] = json!(description),
            None => self.api.faults.push(format!("{}: no field {name}", self.operation.source.name)),
        }
        self
    }

    /// An `Idempotency-Key` is taken.
    #[must_use]
    pub fn idempotent(self) -> Self {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$" });
        let about = "Of the client's choice, kept for 24 hours: the same request gets its first answer letter by letter.";
        self.header("Idempotency-Key", &schema, about)
            .refuses(409, "IDEMPOTENCY_KEY_IN_USE", "The first request with this key is still at work.")
            .refuses(422, "IDEMPOTENCY_KEY_REUSED", "The key was used for another request.")
    }

    /// The limits that count this endpoint; the answer tells of the last one.
    #[must_use]
    pub fn limited(mut self, limits: &[Limit]) -> Self {
        self.operation.limits.extend(limits);
        let told: Vec<String> = limits.iter().map(|limit| format!("{} in {} seconds", limit.count, limit.window.as_secs())).collect();
        self.refuses(429, "RATE_LIMIT_EXCEEDED", &format!("Too many requests: above {}.", told.join(" or ")))
    }

    /// A success with `T` as its `data`.
    #[must_use]
    pub fn answers<T: JsonSchema>(mut self, status: u16) -> Self {
        let data = self.api.outputs.subschema_for::<T>().to_value();
        self.operation.success.push(Success { status, data, is_page: false, raw: None });
        self
    }

    /// A success with a page of `T`.
    #[must_use]
    pub fn answers_page<T: JsonSchema>(mut self) -> Self {
        let data = self.api.outputs.subschema_for::<Vec<T>>().to_value();
        self.operation.success.push(Success { status: 200, data, is_page: true, raw: None });
        self
    }

    /// A success without a body.
    #[must_use]
    pub fn answers_nothing(mut self) -> Self {
        self.operation.success.push(Success { status: 204, data: Value::Null, is_page: false, raw: None });
        self
    }

    /// A document that is not in the envelope; null for an answer without a body.
    #[must_use]
    pub fn answers_raw(mut self, status: u16, schema: Value) -> Self {
        self.operation.success.push(Success { status, data: Value::Null, is_page: false, raw: Some(schema) });
        self
    }

    /// A code that it may refuse with, and when.
    #[must_use]
    pub fn refuses(mut self, status: u16, code: &'static str, meaning: &str) -> Self {
        let refusals = &mut self.operation.refusals;
        let known = refusals.iter().position(|refusal| (refusal.status, refusal.code) == (status, code));
        let said = known.map(|at| refusals.remove(at));
        let mut refusal = said.unwrap_or_else(|| Refusal { status, code, meaning: String::new(), details: None, own_details: false });
        if !meaning.is_empty() {
            meaning.clone_into(&mut refusal.meaning);
        }
        // The last one said is the one whose details follow.
        refusals.push(refusal);
        self
    }

    /// The `details` of the code said last.
    #[must_use]
    pub fn details<T: JsonSchema>(mut self) -> Self {
        let details = self.api.outputs.subschema_for::<T>().to_value();
        if let Some(refusal) = self.operation.refusals.last_mut() {
            (refusal.details, refusal.own_details) = (Some(details), true);
        }
        self
    }

    fn faults(mut self) -> Self {
        let details = self.api.outputs.subschema_for::<Vec<Fault>>().to_value();
        if let Some(refusal) = self.operation.refusals.last_mut() {
            "`details` names every fault.".clone_into(&mut refusal.meaning);
            refusal.details = Some(details);
        }
        self
    }

    /// What every endpoint may answer.
    #[must_use]
    pub(super) fn may_fail(self) -> Self {
        self.refuses(500, "INTERNAL_ERROR", "Something is wrong on our side. Nothing about it is told.").refuses(
            503,
            "SERVICE_UNAVAILABLE",
            "Something that this needs is down for the moment.",
        )
    }

    /// What every endpoint for users takes and may answer.
    #[must_use]
    pub(super) fn for_users(self) -> Self {
        let account = json!({ "type": "string", "format": "uuid" });
        let about = "The account to act for, for members of several. Without it the oldest membership counts.";
        self.header("X-Account-Id", &account, about)
            .refuses(400, "VALIDATION_ERROR", "")
            .faults()
            .refuses(401, "UNAUTHORIZED", "There is no bearer token.")
            .refuses(401, "INVALID_TOKEN", "The token is not, not yet, or no longer valid.")
            .may_fail()
    }

    /// It needs an account: the one asked for, or the caller's oldest.
    #[must_use]
    pub fn needs_account(self) -> Self {
        self.refuses(403, "NO_ACCOUNTS", "The caller is a member of no account.").refuses(
            403,
            "FORBIDDEN",
            "The caller is not a member of the account in `X-Account-Id`.",
        )
    }

    /// Viewers may not.
    #[must_use]
    pub fn not_for_viewers(self) -> Self {
        self.refuses(403, "FORBIDDEN", "The caller may only look, or is not a member of the account in `X-Account-Id`.")
    }

    /// What is not there, or belongs to others.
    #[must_use]
    pub fn not_found(self, what: &str) -> Self {
        self.refuses(404, "NOT_FOUND", &format!("The {what} does not exist, or belongs to others: nobody learns which."))
    }
}
