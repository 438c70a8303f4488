//! The words of this repository: terms that its comments, names and messages do not use, with the ones that they use instead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Phrases that are not used, and what to write instead. A phrase also matches in names, such as `books_are_told` or `Undertaker`.
const PHRASES: &[(&str, &str)] = &[
    ("told", "reports, logs, publishes, returns"),
    ("tells of", "reports, logs, publishes, returns"),
    ("booked", "recorded"),
    ("the books", "the ledger, ledger and balances"),
    ("whoever", "the caller, a client, a user"),
    ("nobody", "no caller, no role, no tenant"),
    ("somebody", "a caller, a user"),
    ("stranger", "another tenant, an unauthenticated client"),
    ("strangers", "another tenant, an unauthenticated client"),
    ("comes again", "is redelivered, is retried"),
    ("come again", "are redelivered, are retried"),
    ("turned away", "is rejected"),
    ("in peace", "backs off"),
    ("still wanted", "active"),
    ("undertaker", "the name of what it is"),
    ("bookkeeper", "the name of what it is"),
    ("asker", "the name of what it is"),
    ("untold", "not reported"),
    // American spelling. `cancelled` is a status of the API.
    ("analyse", "analyze"),
    ("analysed", "analyzed"),
    ("authorise", "authorize"),
    ("authorised", "authorized"),
    ("authorisation", "authorization"),
    ("behaviour", "behavior"),
    ("colour", "color"),
    ("finalised", "finalized"),
    ("learnt", "learned"),
    ("normalise", "normalize"),
    ("normalised", "normalized"),
    ("optimised", "optimized"),
    ("recognise", "recognize"),
    ("recognised", "recognized"),
    ("spelt", "spelled"),
    ("unauthorised", "unauthorized"),
];

/// Places that may contain such a phrase, each with the reason.
const ALLOWED: &[(&str, &str)] = &[
    ("tests/words.rs", "this list"),
    ("functions/operations/openapi.json", "generated from the code, which is checked"),
    ("infra/openapi/examples.json", "recorded responses, whose messages are in the code"),
    ("infra/openapi/tests/oas", "the schema of OpenAPI, as published"),
    ("infra/local/src/postgres.rs", "the Unix user `nobody`"),
    ("infra/sandbox/src/profiles", "texts of invented Instagram profiles"),
    ("infra/sandbox/src/models/phrases.rs", "texts of invented answers of models"),
    ("shared/vendors/src/instructions.rs", "instructions to models, which were evaluated with these words"),
];

/// The kinds of files that people read.
const EXTENSIONS: [&str; 8] = ["rs", "sql", "md", "yaml", "toml", "json", "py", "sh"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Collects the files below a folder, without those that a build or a run creates.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "__pycache__"].contains(&&*name) {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| *known == extension)) {
            files.push(path);
        }
    }
}

/// Splits a line into lower-case words, names such as `is_told` and `IsTold` into their parts.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = ' ';
    for letter in line.chars() {
        if letter.is_alphabetic() {
            let is_new = !previous.is_alphabetic() || letter.is_uppercase() && previous.is_lowercase();
            if is_new {
                words.push(String::new());
            }
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        previous = letter;
    }
    words
}

/// Returns the phrases that a line contains, with their replacements.
fn found(line: &str) -> Vec<(&'static str, &'static str)> {
    let words = words(line);
    let contains = |phrase: &str| {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        words.windows(phrase.len()).any(|window| window.iter().zip(&phrase).all(|(word, part)| word == part))
    };
    PHRASES.iter().filter(|(phrase, _)| contains(phrase)).copied().collect()
}

#[test]
fn phrases_are_found_in_text_and_in_names() {
    assert_eq!(found("fn books_are_told() // Whoever asks").iter().map(|(phrase, _)| *phrase).collect::<Vec<_>>(), ["told", "whoever"]);
    assert_eq!(found("struct Undertaker; // the books").len(), 2);
    assert!(found("a booking, Toldo, the bookshelf").is_empty());
}

#[test]
fn no_file_uses_a_phrase_of_the_list() {
    let root = root();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 300, "only {} files: is this the repository?", files.len());
    let mut findings = String::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if ALLOWED.iter().any(|(allowed, _)| name.starts_with(allowed)) {
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            for (phrase, instead) in found(line) {
                writeln!(findings, "{name}:{}: \"{phrase}\"; write: {instead}\n    {}", number + 1, line.trim()).unwrap();
            }
        }
    }
    assert!(findings.is_empty(), "\n{findings}");
}
