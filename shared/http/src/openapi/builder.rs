//! Describes an endpoint part by part.

use std::any::TypeId;

use oslira_aws::limits::Limit;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::operation::Operation;
use super::response::{Refusal, Success, SuccessBody};
use super::schema_collector::SchemaCollector;
use crate::api_error::ApiError;
use crate::errors;
use crate::fields::FromFields;

/// The endpoints described so far, the generators of their schemas, and the contradictions found.
pub(super) struct Registry {
    pub(super) inputs: SchemaGenerator,
    pub(super) outputs: SchemaGenerator,
    pub(super) operations: Vec<Operation>,
    pub(super) contradictions: Vec<String>,
}

impl Default for Registry {
    fn default() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                "/components/schemas".clone_into(settings.definitions_path.to_mut());
                settings.meta_schema = None;
            })
        };
        let inputs = settings().for_deserialize().with(|settings| settings.inline_subschemas = true);
        Self {
            inputs: inputs.into_generator(),
            outputs: settings().for_serialize().into_generator(),
            operations: Vec::new(),
            contradictions: Vec::new(),
        }
    }
}

/// The description of an endpoint. [`OperationBuilder::end`] adds it to the document.
pub struct OperationBuilder<'a> {
    pub(super) registry: &'a mut Registry,
    pub(super) operation: Operation,
}

impl OperationBuilder<'_> {
    /// Adds the endpoint to the document.
    pub fn end(self) {
        self.registry.operations.push(self.operation);
    }

    /// Describes a parameter of the path.
    #[must_use]
    pub fn path<T: JsonSchema>(mut self, name: &str) -> Self {
        let schema = self.registry.inputs.subschema_for::<T>();
        self.operation.parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        self.refuses(&errors::VALIDATION_ERROR)
    }

    /// Describes the parameters of the query.
    #[must_use]
    pub fn query<T: FromFields>(mut self) -> Self {
        for field in SchemaCollector::collect::<T>(&mut self.registry.inputs).fields {
            let parameter = json!({ "name": field.name, "in": "query", "required": field.required, "schema": field.schema });
            self.operation.parameters.push(parameter);
        }
        self.refuses(&errors::VALIDATION_ERROR)
    }

    /// Describes an optional header of the request.
    #[must_use]
    pub fn header(mut self, name: &str, schema: &Value, description: &str) -> Self {
        let parameter = json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema });
        self.operation.parameters.push(parameter);
        self
    }

    /// Describes the JSON body.
    #[must_use]
    pub fn body<T: FromFields>(mut self) -> Self {
        let schema = SchemaCollector::collect::<T>(&mut self.registry.inputs).into_schema();
        self.operation.body = Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }));
        self.refuses(&errors::INVALID_JSON)
            .refuses(&errors::VALIDATION_ERROR)
            .refuses(&errors::PAYLOAD_TOO_LARGE)
            .refuses(&errors::UNSUPPORTED_MEDIA_TYPE)
    }

    /// Describes a body that the handler does not read field by field.
    #[must_use]
    pub fn raw_body(mut self, schema: &Value, description: &str) -> Self {
        let content = json!({ "application/json": { "schema": schema } });
        self.operation.body = Some(json!({ "required": true, "description": description, "content": content }));
        self
    }

    /// Describes the meaning of a parameter or of a field of the body. `pack.name` is a field of the object `pack`.
    #[must_use]
    pub fn field(mut self, name: &str, description: &str) -> Self {
        let parameter = self.operation.parameters.iter_mut().find(|parameter| parameter["name"] == name);
        let pointer = format!("/content/application~1json/schema/properties/{}", name.replace('.', "/properties/"));
        let found = parameter.or_else(|| self.operation.body.as_mut()?.pointer_mut(&pointer));
        match found {
            Some(found) => found["description"] = json!(description),
            None => self.registry.contradictions.push(format!("{}: no field {name}", self.operation.route)),
        }
        self
    }

    /// Describes the header `Idempotency-Key` and the errors that it causes.
    #[must_use]
    pub fn idempotent(self) -> Self {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$" });
        let description =
            "A key that the client chooses, kept for 24 hours. Repeating the request with it returns the first response again.";
        self.header("Idempotency-Key", &schema, description)
            .refuses(&errors::IDEMPOTENCY_KEY_IN_USE)
            .refuses(&errors::IDEMPOTENCY_KEY_REUSED)
    }

    /// Describes the limits that count the request. The response's `RateLimit` headers describe the last one.
    #[must_use]
    pub fn limited(mut self, limits: &[Limit]) -> Self {
        self.operation.limits.extend(limits);
        let limits: Vec<String> = limits.iter().map(|limit| format!("{} in {} seconds", limit.count, limit.window.as_secs())).collect();
        let builder = self.refuses(&errors::RATE_LIMIT_EXCEEDED);
        builder.mean(format!("More requests than {}.", limits.join(" or ")))
    }

    /// Describes a success with `T` as its `data`.
    #[must_use]
    pub fn responds<T: JsonSchema>(mut self, status: u16) -> Self {
        let data = self.registry.outputs.subschema_for::<T>().to_value();
        self.operation.success.push(Success { status, body: SuccessBody::Data(data) });
        self
    }

    /// Describes a 200 with a page of `T`.
    #[must_use]
    pub fn responds_with_page<T: JsonSchema>(mut self) -> Self {
        let rows = self.registry.outputs.subschema_for::<Vec<T>>().to_value();
        self.operation.success.push(Success { status: 200, body: SuccessBody::Page(rows) });
        self
    }

    /// Describes a 204.
    #[must_use]
    pub fn responds_with_no_content(mut self) -> Self {
        self.operation.success.push(Success { status: 204, body: SuccessBody::Empty });
        self
    }

    /// Describes a 200 with a cacheable document of this schema, without envelope, and the 304 for clients that have its version.
    #[must_use]
    pub fn responds_with_document(mut self, schema: Value) -> Self {
        self.operation.success.push(Success { status: 200, body: SuccessBody::Document(Some(schema)) });
        self.operation.success.push(Success { status: 304, body: SuccessBody::Document(None) });
        self
    }

    /// Describes an error that the endpoint may respond with. A code that was described before gets the new meaning.
    #[must_use]
    pub fn refuses<D: JsonSchema + 'static>(mut self, error: &ApiError<D>) -> Self {
        let has_details = TypeId::of::<D>() != TypeId::of::<()>();
        let refusal = Refusal {
            status: error.status.as_u16(),
            code: error.code,
            meaning: error.meaning.to_owned(),
            details: has_details.then(|| self.registry.outputs.subschema_for::<D>().to_value()),
            // The faults of a request have one form at all endpoints.
            own_details: has_details && error.code != errors::VALIDATION_ERROR.code,
        };
        self.operation.refusals.retain(|other| other.code != refusal.code);
        self.operation.refusals.push(refusal);
        self
    }

    /// Replaces the meaning of the error described last.
    fn mean(mut self, meaning: String) -> Self {
        if let Some(refusal) = self.operation.refusals.last_mut() {
            refusal.meaning = meaning;
        }
        self
    }

    /// Describes the errors of a caller without an account, or without the one in `X-Account-Id`.
    #[must_use]
    pub fn requires_account(self) -> Self {
        self.refuses(&errors::NO_ACCOUNTS).refuses(&errors::NOT_A_MEMBER)
    }

    /// Describes the errors that every endpoint may respond with.
    pub(super) fn may_fail(self) -> Self {
        self.refuses(&errors::INTERNAL_ERROR).refuses(&errors::SERVICE_UNAVAILABLE)
    }

    /// Describes what every endpoint for users accepts and may respond with.
    pub(super) fn for_users(self) -> Self {
        let schema = json!({ "type": "string", "format": "uuid" });
        let description = "The account to act for. Without it the caller's oldest membership applies.";
        self.header("X-Account-Id", &schema, description)
            .refuses(&errors::VALIDATION_ERROR)
            .refuses(&errors::UNAUTHORIZED)
            .refuses(&errors::INVALID_TOKEN)
            .may_fail()
    }
}
