//! Collects the schema of a request from the readers of its fields.

use schemars::SchemaGenerator;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::fields::{Fields, FromFields};
use crate::readers::Reader;

/// A field that a request may have.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) schema: Value,
    pub(super) required: bool,
    nullable: bool,
}

impl Field {
    /// Returns the field's schema in a JSON object, where it may be null. A query has no null.
    fn json_schema(&self) -> Value {
        let mut schema = self.schema.clone();
        if !self.nullable {
            return schema;
        }
        match schema["type"].as_str().map(ToOwned::to_owned) {
            Some(kind) if schema.get("enum").is_none() && schema.get("const").is_none() => {
                schema["type"] = json!([kind, "null"]);
                schema
            }
            _ => json!({ "anyOf": [schema, { "type": "null" }] }),
        }
    }
}

/// Reads no values and records the fields that are read from it.
pub(super) struct SchemaCollector<'a> {
    generator: &'a mut SchemaGenerator,
    pub(super) fields: Vec<Field>,
}

impl<'a> SchemaCollector<'a> {
    /// Collects the fields of a `T`.
    pub(super) fn collect<T: FromFields>(generator: &'a mut SchemaGenerator) -> Self {
        let mut collector = Self { generator, fields: Vec::new() };
        T::from_fields(&mut collector);
        collector
    }

    fn record<R: Reader>(&mut self, name: &str, reader: &R, required: bool, nullable: bool) {
        let schema = reader.schema(self.generator).to_value();
        self.fields.push(Field { name: name.to_owned(), schema, required, nullable });
    }

    /// Returns the schema of an object with the collected fields.
    pub(super) fn into_schema(self) -> Value {
        let required: Vec<&str> = self.fields.iter().filter(|field| field.required).map(|field| &*field.name).collect();
        let properties: Map<String, Value> = self.fields.iter().map(|field| (field.name.clone(), field.json_schema())).collect();
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

impl Fields for SchemaCollector<'_> {
    fn required<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        self.record(name, &reader, true, false);
        None
    }

    fn nullable<R: Reader>(&mut self, name: &str, reader: R) -> Option<Option<R::Value>> {
        self.record(name, &reader, false, true);
        None
    }

    fn non_null<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        self.record(name, &reader, false, false);
        None
    }

    fn or_default<R: Reader<Value: Serialize>>(&mut self, name: &str, reader: R, default: R::Value) -> R::Value {
        self.record(name, &reader, false, true);
        if let Some(field) = self.fields.last_mut() {
            field.schema["default"] = json!(default);
        }
        default
    }

    fn object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        let schema = SchemaCollector::collect::<T>(self.generator).into_schema();
        self.fields.push(Field { name: name.to_owned(), schema, required: false, nullable: false });
        None
    }

    fn required_object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        self.object::<T>(name);
        if let Some(field) = self.fields.last_mut() {
            field.required = true;
        }
        None
    }

    fn fault(&mut self, _: &str, _: impl Into<String>) {}

    fn is_valid(&self) -> bool {
        true
    }
}
