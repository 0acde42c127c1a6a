//! The small command line is linked for size: its segments need no pages of their own, one table of symbols is enough.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for argument in ["-z,noseparate-code", "--hash-style=gnu", "-O2"] {
        println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
    }
}
