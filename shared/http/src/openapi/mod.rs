//! The API's document, made of what the handlers themselves say: their doc comments, the readers of their input, the types of their answers
//! and the codes they refuse with.
//!
//! Only tools and tests call this; nothing of it is linked into the functions.

mod asked;
mod envelope;
mod operation;
mod source;

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

pub use self::operation::Entry;
use self::operation::Operation;
use self::source::{Source, module_comment};

/// The name of the scheme of users' tokens.
const TOKEN: &str = "token";
/// The name of the scheme of Stripe's signatures.
const SIGNATURE: &str = "stripeSignature";

/// All endpoints, as they describe themselves.
pub struct Api {
    inputs: SchemaGenerator,
    outputs: SchemaGenerator,
    tags: Vec<Value>,
    operations: Vec<Operation>,
    faults: Vec<String>,
}

impl Default for Api {
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
            tags: Vec::new(),
            operations: Vec::new(),
            faults: Vec::new(),
        }
    }
}

impl Api {
    /// Begins a feature, described by the module comment of its `lib.rs`.
    pub fn feature(&mut self, name: &str, lib: &str) {
        self.tags.push(json!({ "name": name, "description": module_comment(lib) }));
    }

    /// An endpoint for users, in the file whose text is `source`.
    pub fn user(&mut self, source: &str) -> Entry<'_> {
        self.entry(source, json!([{ (TOKEN): [] }])).for_users()
    }

    /// An endpoint for everybody.
    pub fn public(&mut self, source: &str) -> Entry<'_> {
        self.entry(source, json!([])).may_fail()
    }

    /// An endpoint that Stripe calls.
    pub fn stripe(&mut self, source: &str) -> Entry<'_> {
        self.entry(source, json!([{ (SIGNATURE): [] }])).may_fail()
    }

    /// An endpoint for everybody that answers a file and asks nothing of anybody.
    pub fn file(&mut self, source: &str) -> Entry<'_> {
        self.entry(source, json!([]))
    }

    fn entry(&mut self, text: &str, security: Value) -> Entry<'_> {
        let tag = self.tags.last().and_then(|tag| tag["name"].as_str()).unwrap_or_default().to_owned();
        let source = Source::read(text).unwrap_or_else(|| {
            self.faults.push(format!("no handler in the file that begins {:.60}", text.lines().next().unwrap_or_default()));
            Source {
                method: String::new(),
                path: String::new(),
                name: String::new(),
                summary: String::new(),
                description: String::new(),
                errors: String::new(),
            }
        });
        Entry { api: self, operation: Operation::new(source, tag, security) }
    }

    fn add(&mut self, operation: Operation) {
        let named = |code: &str| operation.refusals.iter().any(|refusal| refusal.code == code);
        // What the doc comment calls a code in the form `CODE` is one that the operation names too.
        let said = operation.source.errors.split('`').skip(1).step_by(2);
        let is_code = |word: &&str| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        for code in said.filter(is_code).filter(|code| !named(code)) {
            self.faults.push(format!("{}: its doc comment names {code}, its operation does not", operation.source.name));
        }
        self.operations.push(operation);
    }

    /// The document of this `version`. `examples` holds, by route, `request` and answers by `200` or `404 NOT_FOUND`.
    ///
    /// # Errors
    /// Every description that contradicts itself.
    pub fn document(mut self, version: &str, examples: &Value) -> Result<Value, Vec<String>> {
        let mut paths: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        let mut schemas = BTreeMap::new();
        for operation in self.operations {
            let (method, path) = (operation.source.method.clone(), operation.source.path.clone());
            let route = format!("{method} {path}");
            let described = operation.into_json(&mut self.outputs, &mut schemas, &examples[&route]);
            if parameters_of(&path) != path_parameters(&described) {
                self.faults.push(format!("{route}: its parameters are not its path's"));
            }
            if paths.entry(path).or_default().insert(method.to_lowercase(), described).is_some() {
                self.faults.push(format!("{route}: described twice"));
            }
        }
        schemas.extend(self.outputs.take_definitions(true));
        schemas.values_mut().for_each(envelope::close);
        schemas.values_mut().for_each(envelope::bound_scores);
        let mut paths = json!(paths);
        envelope::close(&mut paths);
        let responses = envelope::share_responses(&mut paths);
        if !self.faults.is_empty() {
            return Err(self.faults);
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
            "servers": [{ "url": "/", "description": "The API that this document came from." }],
            "tags": self.tags,
            "paths": paths,
            "components": {
                "securitySchemes": {
                    (TOKEN): { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token of Supabase Auth." },
                    (SIGNATURE): {
                        "type": "apiKey", "in": "header", "name": "Stripe-Signature",
                        "description": "Stripe's signature over the time and the raw body: `t=…,v1=…`.",
                    },
                },
                "headers": envelope::headers(),
                "responses": responses,
                "schemas": schemas,
            },
        }))
    }
}

/// The names in braces.
fn parameters_of(path: &str) -> Vec<&str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

fn path_parameters(operation: &Value) -> Vec<&str> {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    parameters.iter().filter(|parameter| parameter["in"] == "path").filter_map(|parameter| parameter["name"].as_str()).collect()
}
