//! Request parameters: form-encoded, with brackets for nesting.

use serde_json::{Map, Value};

use super::problem::Problem;

/// Parameters as a tree whose leaves are texts. JSON pointers such as `/line_items/0/price` name the places in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Params(Value);

/// Converts `/line_items/0/price` into Stripe's notation, `line_items[0][price]`.
fn bracketed<'a>(mut segments: impl Iterator<Item = &'a str>) -> String {
    let first = segments.next().unwrap_or_default().to_owned();
    segments.fold(first, |name, segment| name + "[" + segment + "]")
}

/// Returns the name of a place in errors.
pub(crate) fn name(pointer: &str) -> String {
    bracketed(pointer.split('/').skip(1))
}

/// Returns the segments of `a[b][]`, or `None` for unpaired brackets.
fn segments(name: &str) -> Option<Vec<&str>> {
    let Some((first, rest)) = name.split_once('[') else {
        return (!name.is_empty() && !name.contains(']')).then(|| vec![name]);
    };
    let inner = rest.strip_suffix(']')?;
    let mut segments = vec![first];
    segments.extend(inner.split("]["));
    segments.iter().all(|segment| !segment.contains(['[', ']'])).then_some(segments).filter(|_| !first.is_empty())
}

fn insert(tree: &mut Map<String, Value>, path: &[&str], value: String) -> bool {
    match path {
        [] => false,
        [last] => {
            let key = if last.is_empty() { tree.len().to_string() } else { (*last).to_owned() };
            !tree.insert(key, Value::String(value)).is_some_and(|old| old.is_object())
        }
        [first, rest @ ..] => {
            let key = if first.is_empty() { tree.len().to_string() } else { (*first).to_owned() };
            match tree.entry(key).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(inner) => insert(inner, rest, value),
                _ => false,
            }
        }
    }
}

impl Params {
    /// Reads a query string and a form body.
    pub(crate) fn parse(parts: &[&[u8]]) -> Result<Self, Problem> {
        let mut tree = Map::new();
        for (name, value) in parts.iter().flat_map(|part| form_urlencoded::parse(part)) {
            let placed = segments(&name).is_some_and(|path| insert(&mut tree, &path, value.into_owned()));
            if !placed {
                return Err(Problem::invalid(format!("Invalid parameter name: {name}"), None, Some(&name)));
            }
        }
        Ok(Self(Value::Object(tree)))
    }

    /// Returns whether the place has a value.
    pub(crate) fn has(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).is_some()
    }

    /// Returns a text. An empty one unsets the field, as at Stripe.
    pub(crate) fn text(&self, pointer: &str) -> Result<Option<&str>, Problem> {
        match self.0.pointer(pointer) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::invalid("Invalid string", None, Some(&name(pointer)))),
        }
    }

    /// Returns a required text, which is not empty.
    pub(crate) fn required(&self, pointer: &str) -> Result<&str, Problem> {
        match self.text(pointer)? {
            None => Err(Problem::missing(&name(pointer))),
            Some("") => {
                let name = name(pointer);
                Err(Problem::invalid(format!("You passed an empty string for '{name}'."), Some("parameter_invalid_empty"), Some(&name)))
            }
            Some(text) => Ok(text),
        }
    }

    /// Returns one of the allowed texts.
    pub(crate) fn one_of<'a>(&self, pointer: &str, allowed: &[&'a str]) -> Result<Option<&'a str>, Problem> {
        let Some(text) = self.text(pointer)? else { return Ok(None) };
        let found = allowed.iter().find(|one| **one == text).copied();
        let wrong = || {
            let name = name(pointer);
            Problem::invalid(format!("Invalid {name}: must be one of {}", allowed.join(", ")), None, Some(&name))
        };
        found.map(Some).ok_or_else(wrong)
    }

    /// Returns an integer in a range.
    pub(crate) fn integer(&self, pointer: &str, low: i64, high: i64) -> Result<Option<i64>, Problem> {
        let Some(text) = self.text(pointer)? else { return Ok(None) };
        let name = name(pointer);
        let number: i64 = text
            .parse()
            .map_err(|_| Problem::invalid(format!("Invalid integer: {text}"), Some("parameter_invalid_integer"), Some(&name)))?;
        if (low..=high).contains(&number) {
            Ok(Some(number))
        } else {
            let message = format!("Invalid {name}: must be {low} to {high}");
            Err(Problem::invalid(message, Some("parameter_invalid_integer"), Some(&name)))
        }
    }

    /// Returns a boolean.
    pub(crate) fn boolean(&self, pointer: &str) -> Result<Option<bool>, Problem> {
        match self.text(pointer)? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => Err(Problem::invalid(format!("Invalid boolean: {text}"), None, Some(&name(pointer)))),
        }
    }

    /// Returns the places of a list's members in the order of their indices.
    pub(crate) fn members(&self, pointer: &str) -> Result<Vec<String>, Problem> {
        let wrong = || Problem::invalid("Invalid array", None, Some(&name(pointer)));
        let list = match self.0.pointer(pointer) {
            None => return Ok(Vec::new()),
            Some(Value::Object(list)) => list,
            Some(_) => return Err(wrong()),
        };
        let mut indices = list.keys().map(|key| key.parse::<u32>()).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        indices.sort_unstable();
        Ok(indices.into_iter().map(|index| format!("{pointer}/{index}")).collect())
    }

    /// Applies changes to metadata. An empty value removes its key. Stripe's limits apply: 50 keys of 40 characters, values of 500.
    pub(crate) fn metadata(&self, pointer: &str, metadata: &mut Value) -> Result<(), Problem> {
        let changes = match self.0.pointer(pointer) {
            None => return Ok(()),
            Some(Value::String(text)) if text.is_empty() => {
                *metadata = Value::Object(Map::new());
                return Ok(());
            }
            Some(Value::Object(changes)) => changes,
            Some(_) => return Err(Problem::invalid("Invalid object", None, Some(&name(pointer)))),
        };
        let mut merged = metadata.as_object().cloned().unwrap_or_default();
        for (key, value) in changes {
            let param = name(&format!("{pointer}/{key}"));
            match value.as_str() {
                None => return Err(Problem::invalid("Metadata values must be strings.", None, Some(&param))),
                Some("") => {
                    merged.remove(key);
                }
                Some(text) if key.chars().count() <= 40 && text.chars().count() <= 500 => {
                    merged.insert(key.clone(), value.clone());
                }
                Some(_) => return Err(Problem::invalid("Metadata keys have up to 40 characters, values up to 500.", None, Some(&param))),
            }
        }
        if merged.len() > 50 {
            return Err(Problem::invalid("Metadata has up to 50 keys.", None, Some(&name(pointer))));
        }
        *metadata = Value::Object(merged);
        Ok(())
    }

    /// Rejects parameters that the operation does not have. In a pattern `#` is any index and `*` any key. Every operation has `expand`.
    pub(crate) fn only(&self, patterns: &[&str]) -> Result<(), Problem> {
        let patterns: Vec<Vec<&str>> = patterns.iter().chain(&["expand/#"]).map(|pattern| pattern.split('/').collect()).collect();
        check(&self.0, &mut Vec::new(), &patterns)
    }
}

fn check<'a>(node: &'a Value, path: &mut Vec<&'a str>, patterns: &[Vec<&str>]) -> Result<(), Problem> {
    let fits = |pattern: &Vec<&str>| {
        pattern.len() >= path.len()
            && pattern.iter().zip(path.iter()).all(|(segment, is)| match *segment {
                "#" => is.bytes().all(|byte| byte.is_ascii_digit()),
                "*" => true,
                segment => segment == *is,
            })
    };
    let fitting: Vec<usize> = patterns.iter().filter(|pattern| fits(pattern)).map(Vec::len).collect();
    let name = || bracketed(path.iter().copied());
    if fitting.is_empty() {
        let name = name();
        return Err(Problem::invalid(format!("Received unknown parameter: {name}"), Some("parameter_unknown"), Some(&name)));
    }
    match node {
        Value::Object(inner) => inner.iter().try_for_each(|(key, value)| {
            path.push(key);
            let result = check(value, path, patterns);
            path.pop();
            result
        }),
        // An empty text unsets everything below its place.
        Value::String(text) if text.is_empty() || fitting.contains(&path.len()) => Ok(()),
        _ => Err(Problem::invalid("Invalid object", None, Some(&name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(form: &str) -> Params {
        Params::parse(&[form.as_bytes()]).unwrap()
    }

    #[test]
    fn brackets_nest() {
        let read = params("a=1+2&b%5Bc%5D=%C3%A4&l[0][x]=p&l[1][x]=q&e[]=m&e[]=n");
        assert_eq!(read.0, json!({"a": "1 2", "b": {"c": "ä"}, "l": {"0": {"x": "p"}, "1": {"x": "q"}}, "e": {"0": "m", "1": "n"}}));
        assert_eq!(read.members("/l").unwrap(), ["/l/0", "/l/1"]);
        assert_eq!(read.text("/l/1/x").unwrap(), Some("q"));
        for wrong in ["a[=1", "a]=1", "[a]=1", "=1", "a=1&a[b]=2", "a[b]=1&a=2", "a[b]c=1"] {
            assert!(Params::parse(&[wrong.as_bytes()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_names_the_parameter_in_brackets() {
        let read = params("line_items[0][quantity]=x&mode=luck&flag=1&metadata[k]=v");
        let problem = read.integer("/line_items/0/quantity", 1, 10).unwrap_err();
        assert_eq!((problem.status, problem.param.as_deref()), (400, Some("line_items[0][quantity]")));
        assert_eq!(read.required("/line_items/0/price").unwrap_err().code.as_deref(), Some("parameter_missing"));
        assert_eq!(read.one_of("/mode", &["payment"]).unwrap_err().param.as_deref(), Some("mode"));
        read.boolean("/flag").unwrap_err();
        read.text("/metadata").unwrap_err();
    }

    #[test]
    fn an_unknown_parameter_is_rejected() {
        let read = params("payment_method_types[0]=card&mode=payment");
        let problem = read.only(&["mode"]).unwrap_err();
        assert_eq!((problem.code.as_deref(), problem.param.as_deref()), (Some("parameter_unknown"), Some("payment_method_types")));
        params("items[0][price]=p&metadata[any]=1&expand[]=x&items[0][metadata]=")
            .only(&["items/#/price", "items/#/metadata/*", "metadata/*"])
            .unwrap();
        params("items[first][price]=p").only(&["items/#/price"]).unwrap_err();
        params("items=p").only(&["items/#/price"]).unwrap_err();
    }

    #[test]
    fn metadata_is_merged_and_an_empty_value_removes() {
        let mut metadata = json!({"a": "1", "b": "2"});
        params("metadata[a]=&metadata[c]=3").metadata("/metadata", &mut metadata).unwrap();
        assert_eq!(metadata, json!({"b": "2", "c": "3"}));
        params("metadata=").metadata("/metadata", &mut metadata).unwrap();
        assert_eq!(metadata, json!({}));
        params(&format!("metadata[{}]=1", "k".repeat(41))).metadata("/metadata", &mut metadata).unwrap_err();
    }
}
