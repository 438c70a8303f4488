//! An empty library: this package is its test binary, `main.rs`.
