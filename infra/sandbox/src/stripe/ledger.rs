//! The objects and events of the account.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::problem::Problem;

/// The API version of every object and event, the one that our code uses. Requests with another version are rejected.
pub(super) const API_VERSION: &str = "2026-10-28.endive";

/// The request that caused an event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    pub(crate) request: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

/// All objects and events.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The address of the account's pages, such as `http://127.0.0.1:1/stripe`.
    pub(crate) site: String,
    pub(crate) cause: Cause,
    objects: HashMap<String, Value>,
    /// The ids of each kind of object, the oldest first.
    order: HashMap<String, Vec<String>>,
    /// Details that Stripe keeps about an object but does not return in it.
    details: HashMap<String, Value>,
    events: Vec<Value>,
}

/// Returns the time in Unix seconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Returns a new id as Stripe's are: the prefix and 24 letters and digits.
pub(crate) fn id(prefix: &str) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let (first, second) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let bytes = first.as_bytes().iter().chain(second.as_bytes()).take(24);
    let letters = bytes.map(|byte| char::from(LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().unwrap_or(b'0')));
    format!("{prefix}_{}", letters.collect::<String>())
}

/// Returns the text of a field, or an empty one.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// Returns the number of a field, or 0.
pub(crate) fn number(object: &Value, field: &str) -> i64 {
    object[field].as_i64().unwrap_or_default()
}

/// Returns a list as it is inside an object.
pub(crate) fn list(url: &str, data: &[Value]) -> Value {
    json!({"object": "list", "data": data, "has_more": false, "total_count": data.len(), "url": url})
}

/// Returns the old values of what has changed, as in an event's `previous_attributes`: the changed fields of objects, and whole lists.
pub(crate) fn changes(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return before.clone() };
    let mut changed = Map::new();
    for (name, old) in old {
        match new.get(name) {
            Some(new) if new == old => {}
            Some(new) => {
                changed.insert(name.clone(), changes(old, new));
            }
            None => {
                changed.insert(name.clone(), old.clone());
            }
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        changed.insert(name.clone(), Value::Null);
    }
    Value::Object(changed)
}

impl Ledger {
    /// Creates an account without objects.
    pub(crate) fn new(site: String) -> Self {
        Self { site, cause: Cause::default(), objects: HashMap::new(), order: HashMap::new(), details: HashMap::new(), events: Vec::new() }
    }

    /// Adds an object and returns its id.
    pub(crate) fn insert(&mut self, object: Value) -> String {
        let id = text(&object, "id").to_owned();
        self.order.entry(text(&object, "object").to_owned()).or_default().push(id.clone());
        self.objects.insert(id.clone(), object);
        id
    }

    /// Returns the object of this kind and id.
    pub(crate) fn find(&self, kind: &str, id: &str) -> Option<&Value> {
        self.objects.get(id).filter(|object| object["object"] == kind)
    }

    /// Returns the object of this id, of any kind.
    pub(crate) fn any(&self, id: &str) -> Option<&Value> {
        self.objects.get(id)
    }

    /// Returns the object that a path names.
    pub(crate) fn get(&self, kind: &str, id: &str) -> Result<Value, Problem> {
        self.find(kind, id).cloned().ok_or_else(|| Problem::not_found(kind, id))
    }

    /// Returns the object that a parameter names.
    pub(crate) fn referenced(&self, kind: &str, id: &str, param: &str) -> Result<Value, Problem> {
        self.find(kind, id).cloned().ok_or_else(|| Problem::unknown_reference(kind, id, param))
    }

    /// Returns all objects of a kind, the newest first.
    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let ids = self.order.get(kind).map(Vec::as_slice).unwrap_or_default();
        ids.iter().rev().filter_map(|id| self.objects.get(id))
    }

    /// Changes fields of an object and returns their old values.
    pub(crate) fn change(&mut self, id: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let Some(object) = self.objects.get_mut(id) else { return json!({}) };
        let before = object.clone();
        edit(object);
        changes(&before, object)
    }

    /// Sets fields of an object and returns their old values.
    pub(crate) fn set(&mut self, id: &str, fields: &Value) -> Value {
        self.change(id, |object| {
            for (name, value) in fields.as_object().into_iter().flatten() {
                object[name.as_str()] = value.clone();
            }
        })
    }

    /// Keeps a detail about an object that Stripe does not return in it.
    pub(crate) fn keep(&mut self, id: &str, value: Value) {
        self.details.insert(id.to_owned(), value);
    }

    /// Returns the detail that is kept about an object, or null.
    pub(crate) fn kept(&self, id: &str) -> Value {
        self.details.get(id).cloned().unwrap_or_default()
    }

    /// Creates an event with the current state of an object.
    pub(crate) fn emit(&mut self, kind: &str, id: &str, previous: Option<Value>) {
        let mut data = json!({"object": self.objects.get(id)});
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let event = json!({
            "id": self::id("evt"), "object": "event", "api_version": API_VERSION, "created": now(), "data": data, "livemode": false,
            "pending_webhooks": 0, "request": {"id": self.cause.request, "idempotency_key": self.cause.idempotency_key}, "type": kind,
        });
        self.events.push(event);
    }

    /// Returns all events, the oldest first.
    pub(crate) fn events(&self) -> &[Value] {
        &self.events
    }

    /// Returns an event.
    pub(crate) fn event(&self, id: &str) -> Option<&Value> {
        self.events.iter().rev().find(|event| event["id"] == id)
    }

    /// Records how many endpoints have not yet accepted an event.
    pub(crate) fn set_pending(&mut self, id: &str, count: u8) {
        if let Some(event) = self.events.iter_mut().rev().find(|event| event["id"] == id) {
            event["pending_webhooks"] = json!(count);
        }
    }

    /// Returns whether an event contains the text or concerns this customer.
    pub(crate) fn concerns(&self, event: &Value, searched: &str) -> bool {
        let charge = self.find("charge", text(&event["data"]["object"], "charge"));
        event.to_string().contains(searched) || charge.is_some_and(|charge| charge["customer"] == searched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_stripes_form() {
        let made = id("cs_test");
        assert_eq!(made.len(), "cs_test_".len() + 24);
        assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && made != id("cs_test"));
    }

    #[test]
    fn previous_attributes_name_what_changed() {
        let before = json!({"a": 1, "m": {"x": "1", "y": "2"}, "l": [1, 2], "same": [3]});
        let after = json!({"a": 2, "m": {"x": "1", "z": "3"}, "l": [1, 2, 3], "same": [3]});
        assert_eq!(changes(&before, &after), json!({"a": 1, "m": {"y": "2", "z": null}, "l": [1, 2]}));
    }
}
