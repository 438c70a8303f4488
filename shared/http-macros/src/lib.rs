//! The attribute that declares the route of a handler.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Declares the route of a handler: `#[endpoint(GET, "/api/leads/{leadId}")]`.
///
/// Adds the constant `ROUTE` (an `oslira_http::openapi::Route`) beside the function: method, path, the function's name as operation id,
/// and its doc comment. The first sentence becomes the operation's summary, the rest its description. A section on errors is not part of
/// it and not required: the endpoint's `describe` lists the errors of the API.
#[proc_macro_attribute]
pub fn endpoint(route: TokenStream, handler: TokenStream) -> TokenStream {
    let route: Vec<TokenTree> = route.into_iter().collect();
    let [TokenTree::Ident(method), TokenTree::Punct(_), TokenTree::Literal(path)] = route.as_slice() else {
        return error("expected a method and a path: #[endpoint(GET, \"/api/leads\")]");
    };
    let mut attributes: Vec<TokenTree> = handler.into_iter().collect();
    let item = attributes.split_off(attributes_len(&attributes));
    let Some(name) = function_name(&item) else { return error("expected a function") };
    let doc = doc_lines(&attributes).into_iter().take_while(|line| !is_errors_heading(line)).collect::<Vec<_>>().join(", ");
    let declarations = format!(
        "/// The route of [`{name}`].
        pub(crate) const ROUTE: ::oslira_http::openapi::Route =
            ::oslira_http::openapi::Route::new(\"{method}\", {path}, \"{name}\", &[{doc}]);
        #[allow(clippy::missing_errors_doc, reason = \"`describe` lists the errors\")]"
    );
    let Ok(declarations) = declarations.parse::<TokenStream>() else { return error("the route cannot be declared") };
    declarations.into_iter().chain(attributes).chain(item).collect()
}

/// Returns whether the literal of a doc attribute is the heading of the section on errors.
fn is_errors_heading(line: &str) -> bool {
    line.trim_matches(['"', ' ']) == "# Errors"
}

/// Returns the number of tokens of the attributes that an item begins with.
fn attributes_len(tokens: &[TokenTree]) -> usize {
    let is_attribute = |pair: &&[TokenTree]| match pair {
        [TokenTree::Punct(hash), TokenTree::Group(group)] => hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket,
        _ => false,
    };
    tokens.chunks(2).take_while(is_attribute).count() * 2
}

/// Returns the string literals of the doc attributes.
fn doc_lines(attributes: &[TokenTree]) -> Vec<String> {
    let line = |token: &TokenTree| {
        let TokenTree::Group(group) = token else { return None };
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        match tokens.as_slice() {
            [TokenTree::Ident(name), TokenTree::Punct(_), TokenTree::Literal(text)] if name.to_string() == "doc" => Some(text.to_string()),
            _ => None,
        }
    };
    attributes.iter().filter_map(line).collect()
}

/// Returns the identifier after `fn`.
fn function_name(item: &[TokenTree]) -> Option<String> {
    let position = item.iter().position(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    item.get(position + 1).map(ToString::to_string)
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});").parse().unwrap_or_default()
}
