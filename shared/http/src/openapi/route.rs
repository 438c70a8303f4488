//! The route of an endpoint, and what its handler's doc comment says.

/// An endpoint's route, operation id and description. The attribute [`endpoint`](crate::endpoint) declares it on a handler.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) operation_id: &'static str,
    /// The handler's doc comment, line by line.
    doc: &'static [&'static str],
}

impl Route {
    /// Creates the route of a handler.
    pub const fn new(method: &'static str, path: &'static str, operation_id: &'static str, doc: &'static [&'static str]) -> Self {
        Self { method, path, operation_id, doc }
    }

    /// Returns the first sentence of the doc comment without its full stop, and the rest.
    pub(super) fn summary_and_description(&self) -> (String, String) {
        let text = paragraphs(self.doc);
        let (summary, description) = first_sentence(text.trim());
        (summary.to_owned(), description.to_owned())
    }

    /// Returns the names in braces.
    pub(super) fn parameters(&self) -> Vec<&'static str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Joins lines to paragraphs.
fn paragraphs(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines.iter().map(|line| line.trim()) {
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

/// Splits a text after its first sentence, which loses its full stop.
fn first_sentence(text: &str) -> (&str, &str) {
    let ends = text.match_indices('.').map(|(at, _)| at).find(|at| text[at + 1..].chars().next().is_none_or(char::is_whitespace));
    ends.map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doc_comment_is_a_summary_and_a_description() {
        let route = Route::new("GET", "/a/{b}/{c}", "show_b", &[" Shows `a.b` of", " something. Of all.", "", " More."]);
        let (summary, description) = route.summary_and_description();
        assert_eq!((&*summary, &*description), ("Shows `a.b` of something", "Of all.\n\nMore."));
        assert_eq!((route.to_string(), route.parameters()), ("GET /a/{b}/{c}".to_owned(), vec!["b", "c"]));
    }
}
