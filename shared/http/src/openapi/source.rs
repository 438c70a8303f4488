//! What a handler's own file says about it.

/// A handler's file, as far as the document quotes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) method: String,
    pub(super) path: String,
    /// The handler's name.
    pub(super) name: String,
    /// The first sentence of its doc comment.
    pub(super) summary: String,
    /// The rest of it, without the part on errors.
    pub(super) description: String,
    /// The part on errors.
    pub(super) errors: String,
}

impl Source {
    /// Reads a file that begins with its route and in which the handler is the public asynchronous function.
    pub(super) fn read(text: &str) -> Option<Self> {
        let route = text.lines().next()?.strip_prefix("//! `")?.strip_suffix('`')?;
        let (method, path) = route.split_once(' ')?;
        let (before, after) = text.split_once("\npub async fn ")?;
        let name = after.split(['(', '<']).next()?;
        let doc: Vec<&str> = before.lines().rev().map_while(|line| line.strip_prefix("///")).map(str::trim).collect();
        let doc = paragraphs(doc.into_iter().rev());
        let (doc, errors) = doc.split_once("# Errors").unwrap_or((&doc, ""));
        let (summary, description) = first_sentence(doc.trim());
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            name: name.to_owned(),
            summary: summary.to_owned(),
            description: description.to_owned(),
            errors: errors.trim().to_owned(),
        })
    }
}

/// The module comment of a file.
pub(super) fn module_comment(text: &str) -> String {
    paragraphs(text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim))
}

/// Lines joined to paragraphs.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for line in lines {
        match line {
            "" => text.push_str("\n\n"),
            line if text.is_empty() || text.ends_with('\n') => text.push_str(line),
            line => {
                text.push(' ');
                text.push_str(line);
            }
        }
    }
    text
}

/// The first sentence without its full stop, and the rest.
fn first_sentence(text: &str) -> (&str, &str) {
    let ends = text.match_indices('.').map(|(at, _)| at).find(|at| text[at + 1..].chars().next().is_none_or(char::is_whitespace));
    ends.map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_tells_its_route_and_what_it_does() {
        let text = "//! `GET /a/{b}`\n\nuse x;\n\n/// No handler.\nstruct A;\n\n/// Shows `a.b` of\n/// something. Of all.\n///\n/// More.\n///\n/// # Errors\n/// `NO` 404.\npub async fn show_b(a: A) {}\n";
        let source = Source::read(text).unwrap();
        assert_eq!((&*source.method, &*source.path, &*source.name), ("GET", "/a/{b}", "show_b"));
        assert_eq!((&*source.summary, &*source.description), ("Shows `a.b` of something", "Of all.\n\nMore."));
        assert_eq!(source.errors, "`NO` 404.");
        assert_eq!(Source::read("//! Nothing."), None);
    }
}
