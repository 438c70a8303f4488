//! Links the functions at a fixed address, as Go does for Lambda.
//!
//! In a position-independent program the loader writes each of tens of thousands of addresses at every start, which copies most of a
//! megabyte of pages. That was a third of the start time beyond the runtime's own. A fixed address gives up the random location of the
//! program's code; stack, heap and libraries keep theirs. That is acceptable for Rust without `unsafe` in a virtual machine of its own.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    // Other linkers, such as that of a developer's macOS, do not have this option.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
