//! Prompt caches: the part of a prompt that the vendor has seen before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::protocol::{Caching, Question, tokens_of};
use crate::bill::Tokens;
use crate::seed::hash;

/// The number of prompts kept for a key. A shared prefix is found in any of them.
const KEPT: usize = 8;
/// The number of tokens in which OpenAI's cache grows.
const STEP: i64 = 128;

/// The prompts that both vendors have cached.
#[derive(Debug, Default)]
pub(crate) struct PromptCache(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Model and cache key → the latest prompts.
    prompts: HashMap<(&'static str, String), VecDeque<String>>,
    /// Model and hash of a marked prefix → its tokens.
    prefixes: HashMap<(&'static str, u64), i64>,
}

impl PromptCache {
    /// Counts the input tokens of a question and remembers its prompt.
    pub(crate) fn count(&self, question: &Question, tokens: &mut Tokens) {
        tokens.input = tokens_of(&question.prompt);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &question.caching {
            Caching::Implicit { key } => seen.implicit(question, key, tokens),
            Caching::Marked { ends, .. } => seen.marked(question, ends, tokens),
        }
    }

    /// Removes all prompts.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }
}

impl Seen {
    fn implicit(&mut self, question: &Question, key: &str, tokens: &mut Tokens) {
        let prompts = self.prompts.entry((question.model.name, key.to_owned())).or_default();
        let cacheable = |count: i64| if count >= question.model.cacheable_from { count / STEP * STEP } else { 0 };
        let shared = prompts.iter().map(|earlier| common_prefix(earlier, &question.prompt)).max_by_key(|prefix| prefix.len());
        tokens.cached = shared.map_or(0, |prefix| cacheable(tokens_of(prefix)));
        if question.model.write > 0 {
            tokens.cache_write = (cacheable(tokens.input) - tokens.cached).max(0);
        }
        prompts.push_front(question.prompt.clone());
        prompts.truncate(KEPT);
    }

    fn marked(&mut self, question: &Question, ends: &[usize], tokens: &mut Tokens) {
        let parts: Vec<(u64, i64)> = ends
            .iter()
            .filter_map(|end| question.prompt.get(..*end))
            .map(|prefix| (hash(prefix.as_bytes()), tokens_of(prefix)))
            .filter(|(_, count)| *count >= question.model.cacheable_from)
            .collect();
        let Some(longest) = parts.iter().map(|(_, count)| *count).max() else { return };
        let hit =
            parts.iter().filter(|(prefix, _)| self.prefixes.contains_key(&(question.model.name, *prefix))).map(|(_, count)| *count).max();
        tokens.cached = hit.unwrap_or(0);
        tokens.cache_write = longest - tokens.cached;
        self.prefixes.extend(parts.into_iter().map(|(prefix, count)| ((question.model.name, prefix), count)));
    }
}

fn common_prefix<'a>(one: &str, other: &'a str) -> &'a str {
    // Whole blocks are compared first, which is many times faster than byte by byte.
    let blocks = one.as_bytes().chunks(256).zip(other.as_bytes().chunks(256)).take_while(|(a, b)| a == b);
    let mut length: usize = blocks.map(|(block, _)| block.len()).sum();
    let rest = |text: &str| text.as_bytes().get(length..length.saturating_add(256).min(text.len())).unwrap_or_default().to_vec();
    length += rest(one).iter().zip(&rest(other)).take_while(|(a, b)| a == b).count();
    while !other.is_char_boundary(length) {
        length -= 1;
    }
    other.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bill::{ANTHROPIC, Model, OPENAI, find};

    fn count(cache: &PromptCache, model: &'static Model, prompt: &str, caching: Caching) -> (i64, i64, i64) {
        let question = Question {
            model,
            model_name: model.name.to_owned(),
            schema: None,
            schema_title: None,
            prompt: prompt.to_owned(),
            caching,
            budget: 1000,
            effort: "none".to_owned(),
        };
        let mut tokens = Tokens::default();
        cache.count(&question, &mut tokens);
        (tokens.input, tokens.cached, tokens.cache_write)
    }

    #[test]
    fn a_shared_prefix_of_a_key_is_read_from_the_cache() {
        let cache = PromptCache::default();
        let luna = find(OPENAI, "gpt-6-luna").unwrap();
        let key = |key: &str| Caching::Implicit { key: key.to_owned() };
        let prompt = |end: &str| format!("{}{}", "business ".repeat(600), end.repeat(400));
        assert_eq!(count(&cache, luna, &prompt("a"), key("one")), (1450, 0, 1408));
        assert_eq!(count(&cache, luna, &prompt("b"), key("one")), (1450, 1280, 128));
        assert_eq!(count(&cache, luna, &prompt("b"), key("two")), (1450, 0, 1408), "another key has a cache of its own");
        assert_eq!(count(&cache, luna, "short", key("one")), (2, 0, 0));
        let mini = find(OPENAI, "gpt-5-mini").unwrap();
        assert_eq!(count(&cache, mini, &prompt("a"), key("one")), (1450, 0, 0), "this model does not bill writes");
    }

    #[test]
    fn marked_prefixes_are_written_once_and_then_read() {
        let cache = PromptCache::default();
        let haiku = find(ANTHROPIC, "claude-haiku-5-5").unwrap();
        let mark = || Caching::Marked { ends: vec![4_800], one_hour: false };
        let prompt = |end: &str| format!("{}{end}", "x".repeat(4_800));
        assert_eq!(count(&cache, haiku, &prompt("abcd"), mark()), (1201, 0, 1200));
        assert_eq!(count(&cache, haiku, &prompt("efgh"), mark()), (1201, 1200, 0));
        assert_eq!(count(&cache, haiku, &prompt("efgh"), Caching::Marked { ends: vec![400], one_hour: false }), (1201, 0, 0), "too short");
    }
}
