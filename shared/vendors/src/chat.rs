//! The Chat Completions API of `OpenAI`, which most compatible servers implement. The request has only the fields that they have in common:
//! servers often reject a request with a field that they do not know.

use oslira_domain::assessment;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Request};
use crate::openai;
use crate::reading::{Dialect, End, Output, refusal, refusal_in, text_of};
use crate::wire::Reply;

/// Returns the body of a request, with its stable parts first.
///
/// There is one system message and one message of the user, because many chat templates reject or drop a second one. The fields are described in
/// words too: a server constrains the model's answer by the schema and does not show it to the model.
pub(crate) fn body(request: &Request<'_>) -> Value {
    let prompt = &request.question.prompt;
    let schema = json!({"name": request.schema["title"], "schema": request.schema, "strict": true});
    let fields = assessment::described(request.schema);
    let mut body = json!({
        "model": request.model,
        "messages": [
            {"role": "system", "content": format!("{}\n# The fields of your answer, in this order\n\n{fields}", prompt.instructions)},
            {"role": "user", "content": format!("{}\n\n{}", prompt.business, prompt.profile)},
        ],
        "response_format": {"type": "json_schema", "json_schema": schema},
    });
    body[request.limit.as_str()] = json!(request.max_output_tokens);
    if let Some(effort) = request.effort {
        body["reasoning_effort"] = json!(effort.as_str());
    }
    body
}

/// How responses are read.
pub(crate) struct Chat;

impl Dialect for Chat {
    /// Only one choice is requested. If a server sends more, the first says how the response ended.
    fn output(body: &Value) -> Output {
        let choices = body["choices"].as_array().into_iter().flatten();
        let mut outputs = choices.map(|choice| {
            let content = &choice["message"]["content"];
            // Servers of older APIs have the text beside the message.
            let text = if content.is_null() { text_of(&choice["text"]) } else { text_of(content) };
            let refusal = refusal(&choice["message"]["refusal"]).max(refusal_in(content));
            End::of(&choice["finish_reason"]).output(vec![text]).with(refusal)
        });
        let Some(mut first) = outputs.next() else { return Output::failed(VendorError::Invalid("no choice")) };
        first.texts.extend(outputs.flat_map(|output| output.texts));
        first
    }

    fn failure(reply: &Reply) -> Failure {
        openai::failure(reply)
    }

    fn reported(error: &Value) -> Failure {
        openai::reported(error)
    }
}
