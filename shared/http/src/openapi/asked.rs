//! What a request is asked for: its readers describe themselves.

use schemars::SchemaGenerator;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::fields::{Fields, FromFields};
use crate::readers::Reader;

/// A field that is asked for.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) schema: Value,
    pub(super) required: bool,
    nullable: bool,
}

/// Gives nothing and notes what it is asked for.
pub(super) struct Asked<'a> {
    generator: &'a mut SchemaGenerator,
    pub(super) fields: Vec<Field>,
}

impl<'a> Asked<'a> {
    /// What `T` asks for.
    pub(super) fn by<T: FromFields>(generator: &'a mut SchemaGenerator) -> Self {
        let mut asked = Self { generator, fields: Vec::new() };
        T::from_fields(&mut asked);
        asked
    }

    fn note<R: Reader>(&mut self, name: &str, reader: &R, required: bool, nullable: bool) {
        let schema = reader.schema(self.generator).to_value();
        self.fields.push(Field { name: name.to_owned(), schema, required, nullable });
    }

    /// All of it as the schema of an object.
    pub(super) fn into_schema(self) -> Value {
        let required: Vec<&str> = self.fields.iter().filter(|field| field.required).map(|field| &*field.name).collect();
        let properties: Map<String, Value> = self.fields.iter().map(|field| (field.name.clone(), field.in_json())).collect();
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

impl Field {
    /// The field in a JSON object, where it may be null; a query knows no null.
    fn in_json(&self) -> Value {
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

impl Fields for Asked<'_> {
    fn required<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        self.note(name, &reader, true, false);
        None
    }

    fn nullable<R: Reader>(&mut self, name: &str, reader: R) -> Option<Option<R::Value>> {
        self.note(name, &reader, false, true);
        None
    }

    fn present<R: Reader>(&mut self, name: &str, reader: R) -> Option<R::Value> {
        self.note(name, &reader, false, false);
        None
    }

    fn or<R: Reader<Value: Serialize>>(&mut self, name: &str, reader: R, usual: R::Value) -> R::Value {
        self.note(name, &reader, false, true);
        if let Some(field) = self.fields.last_mut() {
            field.schema["default"] = json!(usual);
        }
        usual
    }

    fn object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        let schema = Asked::by::<T>(self.generator).into_schema();
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
