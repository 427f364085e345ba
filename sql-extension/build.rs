//! Postgres' functions are found when it loads the library. A test program, which Postgres does not load, has none and calls none.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,--unresolved-symbols=ignore-all");
    println!("cargo:rerun-if-changed=build.rs");
}
