//! The tokens that a response reports, in the names of all APIs.

use serde_json::Value;

use crate::models::Usage;
use crate::wire::whole;

/// More tokens than any model reads or writes at once.
const MAX_TOKENS: i64 = 1_000_000_000;

/// The usage is not one: the cost is unknown.
struct Unreadable;

/// Returns the usage in a response. `None` if it is missing, incomplete or contradicts itself: then its cost is unknown, which is not zero.
pub(crate) fn read(body: &Value) -> Option<Usage> {
    consistent(body).ok()
}

fn consistent(body: &Value) -> Result<Usage, Unreadable> {
    // Gateways that know both names report 0 in those that they do not use.
    let largest = |places: &[&str]| {
        places.iter().try_fold(None, |largest: Option<i64>, place| Ok(largest.max(body.pointer(place).map_or(Ok(None), count)?)))
    };
    let prompt = largest(&["/prompt_tokens"])?;
    let input = largest(&["/input_tokens", "/prompt_tokens"])?.ok_or(Unreadable)?;
    let output = largest(&["/output_tokens", "/completion_tokens"])?.ok_or(Unreadable)?;
    let details =
        ["/input_tokens_details/cached_tokens", "/prompt_tokens_details/cached_tokens", "/prompt_cache_hit_tokens", "/cached_tokens"];
    let included = largest(&details)?;
    let read = largest(&["/cache_read_input_tokens"])?;
    let created = largest(&["/cache_creation_input_tokens"])?;
    let cached = included.max(read).unwrap_or(0);
    let details = ["/input_tokens_details/cache_write_tokens", "/prompt_tokens_details/cache_write_tokens"];
    let written = largest(&details)?.max(created).unwrap_or(0);

    // `input_tokens` of Anthropic excludes what was read from the cache and written to it, which have names of their own. All other counts of
    // the input include it.
    let excludes_cache = prompt.unwrap_or(0) == 0 && included.is_none() && (read.is_some() || created.is_some());
    let fresh = if excludes_cache { input } else { input - cached - written };
    let all_input = fresh + cached + written;
    // No prompt is empty.
    if fresh < 0 || all_input == 0 {
        return Err(Unreadable);
    }

    let reasoning = largest(&[
        "/output_tokens_details/reasoning_tokens",
        "/output_tokens_details/thinking_tokens",
        "/completion_tokens_details/reasoning_tokens",
        "/reasoning_tokens",
    ])?
    .unwrap_or(0);
    let total = largest(&["/total_tokens"])?.filter(|total| *total > 0);
    let outside = match total {
        Some(total) if excludes_cache && total == input + output => 0,
        Some(total) => total - all_input - output,
        None if reasoning > output => reasoning,
        None => 0,
    };
    match outside {
        0 => Ok(usage(fresh, cached, written, output, reasoning.min(output))),
        // xAI counts its reasoning beside the completion; Gemini, which reports no reasoning at this place, only in the total. Both charge it.
        1.. if reasoning == outside || reasoning == 0 => Ok(usage(fresh, cached, written, output + outside, outside)),
        _ => Err(Unreadable),
    }
}

fn usage(fresh_input: i64, cached_input: i64, cache_write: i64, output: i64, reasoning: i64) -> Usage {
    Usage { fresh_input, cached_input, cache_write, output, reasoning }
}

/// Returns a number of tokens, which some servers write as `3000.0` or `"3000"`. `None` for null.
fn count(value: &Value) -> Result<Option<i64>, Unreadable> {
    let count = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    count.filter(|count| (0..=MAX_TOKENS).contains(count)).map(Some).ok_or(Unreadable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_names_of_every_api_are_read() {
        for (body, [fresh, cached, written, output, reasoning]) in [
            // OpenAI's Responses.
            (
                json!({"input_tokens": 3000, "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 1000}, "output_tokens": 500,
                    "output_tokens_details": {"reasoning_tokens": 200}, "total_tokens": 3500}),
                [976, 1024, 1000, 500, 200],
            ),
            // Chat Completions.
            (
                json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 3500, "prompt_tokens_details": {"cached_tokens": 1024},
                    "completion_tokens_details": {"reasoning_tokens": 200}}),
                [1976, 1024, 0, 500, 200],
            ),
            // Anthropic.
            (
                json!({"input_tokens": 1000, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000, "output_tokens": 300,
                    "output_tokens_details": {"thinking_tokens": 120}}),
                [1000, 2000, 100, 300, 120],
            ),
            (
                json!({"input_tokens": 1000, "cache_creation_input_tokens": null, "cache_read_input_tokens": 0, "output_tokens": 300}),
                [1000, 0, 0, 300, 0],
            ),
            // All of the input came from the cache.
            (json!({"input_tokens": 0, "cache_read_input_tokens": 2000, "output_tokens": 300}), [0, 2000, 0, 300, 0]),
            // Anthropic behind gateways, with a total of either kind.
            (
                json!({"input_tokens": 1000, "cache_read_input_tokens": 2000, "output_tokens": 300, "total_tokens": 1300}),
                [1000, 2000, 0, 300, 0],
            ),
            (
                json!({"input_tokens": 1000, "cache_read_input_tokens": 2000, "output_tokens": 300, "total_tokens": 3300}),
                [1000, 2000, 0, 300, 0],
            ),
            // LiteLLM has Anthropic's names beside a count of the whole prompt.
            (
                json!({"prompt_tokens": 3000, "completion_tokens": 300, "total_tokens": 3300, "cache_read_input_tokens": 2000}),
                [1000, 2000, 0, 300, 0],
            ),
            // DeepSeek and Moonshot.
            (json!({"prompt_tokens": 3000, "completion_tokens": 300, "prompt_cache_hit_tokens": 2000}), [1000, 2000, 0, 300, 0]),
            (json!({"prompt_tokens": 3000, "completion_tokens": 300, "cached_tokens": 2000}), [1000, 2000, 0, 300, 0]),
            // Gateways with both names.
            (
                json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 3500, "input_tokens": 0, "output_tokens": 0,
                    "input_tokens_details": null}),
                [3000, 0, 0, 500, 0],
            ),
            // Without details, and with those that are null or unknown.
            (json!({"input_tokens": 3000, "output_tokens": 500}), [3000, 0, 0, 500, 0]),
            (
                json!({"input_tokens": 3000, "output_tokens": 500, "input_tokens_details": {"cached_tokens": null, "audio_tokens": 1},
                    "output_tokens_details": null, "total_tokens": null, "cost": 0.01}),
                [3000, 0, 0, 500, 0],
            ),
            (json!({"input_tokens": 3000.0, "output_tokens": "500", "total_tokens": 0}), [3000, 0, 0, 500, 0]),
            // xAI's reasoning stands beside the completion.
            (
                json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 5900, "completion_tokens_details": {"reasoning_tokens": 2400}}),
                [3000, 0, 0, 2900, 2400],
            ),
            (
                json!({"prompt_tokens": 3000, "completion_tokens": 500, "completion_tokens_details": {"reasoning_tokens": 2400}}),
                [3000, 0, 0, 2900, 2400],
            ),
            // Gemini's is in the total only.
            (json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 5900}), [3000, 0, 0, 2900, 2400]),
            // A refusal before the first token.
            (json!({"input_tokens": 3000, "output_tokens": 0}), [3000, 0, 0, 0, 0]),
        ] {
            assert_eq!(read(&body), Some(usage(fresh, cached, written, output, reasoning)), "{body}");
        }
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_unknown() {
        for body in [
            json!(null),
            json!({}),
            json!([]),
            json!("3000"),
            json!({"prompt_tokens": null, "completion_tokens": null}),
            json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
            json!({"prompt_tokens": 3000}),
            json!({"completion_tokens": 500, "total_tokens": 3500}),
            json!({"total_tokens": 3500}),
            json!({"input_tokens": -5, "output_tokens": 500}),
            json!({"input_tokens": 3000, "output_tokens": -9}),
            json!({"prompt_tokens": 3000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": -1}}),
            json!({"prompt_tokens": 3000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": "many"}}),
            json!({"prompt_tokens": 3000, "completion_tokens": 500, "completion_tokens_details": {"reasoning_tokens": -1}}),
            json!({"input_tokens": 3000, "output_tokens": 500, "input_tokens_details": {"cached_tokens": 5000}}),
            json!({"input_tokens": 3000.5, "output_tokens": 500}),
            json!({"input_tokens": 1e30, "output_tokens": 500}),
            json!({"input_tokens": i64::MAX, "output_tokens": i64::MAX}),
            json!({"input_tokens": [3000], "output_tokens": 500}),
            json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 3200}),
            json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 5900, "completion_tokens_details": {"reasoning_tokens": 100}}),
        ] {
            assert_eq!(read(&body), None, "{body}");
        }
    }
}
