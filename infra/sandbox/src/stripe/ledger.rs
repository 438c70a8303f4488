//! All objects and events of the pretended Stripe account.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::{API_VERSION, catalog};

/// What an event says of the request that caused it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause {
    pub(crate) request: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

/// The account.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Where the account's pages are, such as `http://127.0.0.1:1/stripe`.
    pub(crate) site: String,
    pub(crate) cause: Cause,
    objects: HashMap<String, Value>,
    /// Ids by kind of object, oldest first.
    order: HashMap<String, Vec<String>>,
    /// What Stripe keeps of an object without showing it in the object.
    hidden: HashMap<String, Value>,
    events: Vec<Value>,
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A new id in Stripe's manner: the prefix and 24 letters and digits.
pub(crate) fn id(prefix: &str) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let (first, second) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let bytes = first.as_bytes().iter().chain(second.as_bytes()).take(24);
    let letters = bytes.map(|byte| char::from(LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().unwrap_or(b'0')));
    format!("{prefix}_{}", letters.collect::<String>())
}

/// The text of a field, empty if it is none.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// The number of a field, 0 if it is none.
pub(crate) fn number(object: &Value, field: &str) -> i64 {
    object[field].as_i64().unwrap_or_default()
}

/// A list inside an object.
pub(crate) fn list(url: &str, data: &[Value]) -> Value {
    json!({"object": "list", "data": data, "has_more": false, "total_count": data.len(), "url": url})
}

/// The old values of what has changed, as in an event's `previous_attributes`: of objects the changed fields, of lists all.
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
    /// An account that sells the three plans.
    pub(crate) fn new(site: String) -> Self {
        let mut ledger = Self {
            site,
            cause: Cause::default(),
            objects: HashMap::new(),
            order: HashMap::new(),
            hidden: HashMap::new(),
            events: Vec::new(),
        };
        catalog::stock(&mut ledger);
        ledger
    }

    /// Adds an object and gives its id.
    pub(crate) fn insert(&mut self, object: Value) -> String {
        let id = text(&object, "id").to_owned();
        self.order.entry(text(&object, "object").to_owned()).or_default().push(id.clone());
        self.objects.insert(id.clone(), object);
        id
    }

    /// The object of that kind and id.
    pub(crate) fn find(&self, kind: &str, id: &str) -> Option<&Value> {
        self.objects.get(id).filter(|object| object["object"] == kind)
    }

    /// The object of that id, whatever it is.
    pub(crate) fn any(&self, id: &str) -> Option<&Value> {
        self.objects.get(id)
    }

    /// The object that a path names.
    pub(crate) fn get(&self, kind: &str, id: &str) -> Result<Value, Problem> {
        self.find(kind, id).cloned().ok_or_else(|| Problem::not_found(kind, id))
    }

    /// The object that a parameter names.
    pub(crate) fn referenced(&self, kind: &str, id: &str, param: &str) -> Result<Value, Problem> {
        self.find(kind, id).cloned().ok_or_else(|| Problem::unknown_reference(kind, id, param))
    }

    /// All of a kind, the newest first.
    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let ids = self.order.get(kind).map(Vec::as_slice).unwrap_or_default();
        ids.iter().rev().filter_map(|id| self.objects.get(id))
    }

    /// Changes fields of an object and gives their old values.
    pub(crate) fn change(&mut self, id: &str, work: impl FnOnce(&mut Value)) -> Value {
        let Some(object) = self.objects.get_mut(id) else { return json!({}) };
        let before = object.clone();
        work(object);
        changes(&before, object)
    }

    /// Sets fields of an object and gives their old values.
    pub(crate) fn set(&mut self, id: &str, fields: &Value) -> Value {
        self.change(id, |object| {
            for (name, value) in fields.as_object().into_iter().flatten() {
                object[name.as_str()] = value.clone();
            }
        })
    }

    /// Keeps something about an object that the object does not show.
    pub(crate) fn hide(&mut self, id: &str, value: Value) {
        self.hidden.insert(id.to_owned(), value);
    }

    /// What is kept about an object; null if nothing.
    pub(crate) fn hidden(&self, id: &str) -> Value {
        self.hidden.get(id).cloned().unwrap_or_default()
    }

    /// Makes an event of the object as it is now.
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

    /// All events, the oldest first.
    pub(crate) fn events(&self) -> &[Value] {
        &self.events
    }

    /// One event.
    pub(crate) fn event(&self, id: &str) -> Option<&Value> {
        self.events.iter().rev().find(|event| event["id"] == id)
    }

    /// Notes how many endpoints have yet to take an event.
    pub(crate) fn set_pending(&mut self, id: &str, count: u8) {
        if let Some(event) = self.events.iter_mut().rev().find(|event| event["id"] == id) {
            event["pending_webhooks"] = json!(count);
        }
    }

    /// Is the event about what the text names: a customer, or anything that stands in it?
    pub(crate) fn concerns(&self, event: &Value, wanted: &str) -> bool {
        let charge = self.find("charge", text(&event["data"]["object"], "charge"));
        event.to_string().contains(wanted) || charge.is_some_and(|charge| charge["customer"] == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_stripes() {
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
