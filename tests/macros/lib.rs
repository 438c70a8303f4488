//! The attribute that registers an integration test.

use proc_macro::{TokenStream, TokenTree};

/// Registers an `async fn(Arc<World>)` as an integration test.
///
/// Tests run side by side on one stack. `#[stack_test(alone)]` runs a test while no other runs: one that disturbs every request, such as a
/// restart of the database.
#[proc_macro_attribute]
pub fn stack_test(argument: TokenStream, function: TokenStream) -> TokenStream {
    let alone = match argument.to_string().as_str() {
        "" => false,
        "alone" => true,
        other => return error(&format!("unknown argument `{other}`: expected none or `alone`")),
    };
    let mut tokens = function.clone().into_iter().skip_while(|token| !matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"));
    let Some(TokenTree::Ident(name)) = tokens.nth(1) else {
        return error("expected `async fn name(world: Arc<World>)`");
    };
    let registration = format!(
        "::inventory::submit! {{
            crate::harness::StackTest {{
                name: concat!(module_path!(), \"::\", stringify!({name})),
                alone: {alone},
                run: |world| Box::pin({name}(world)),
            }}
        }}"
    );
    let registration: TokenStream = registration.parse().unwrap_or_else(|fault| error(&format!("{name}: {fault}")));
    function.into_iter().chain(registration).collect()
}

fn error(message: &str) -> TokenStream {
    format!("compile_error!({message:?});").parse().unwrap_or_default()
}
