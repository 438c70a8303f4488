//! Links the functions at a fixed address, as Go links its own for Lambda.
//!
//! A position-independent program has each of its tens of thousands of addresses written by the loader at every start, which copies
//! most of a megabyte's pages: a third of what a start took beyond the runtime's own. What is given up is the random place of the
//! program's own code; stack, heap and libraries keep theirs. Rust without `unsafe` in a virtual machine of its own can spare it.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    // What else links this workspace, a developer's macOS say, has no such choice.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
