//! What the compiler says of programs that cannot be served: it names what to do.
//!
//! Each program in `ui` lacks one thing, and the text beside it is what the compiler of the workspace's `rust-version` says. After a
//! change of either, `TRYBUILD=overwrite cargo test -p baiwan-messages` writes the texts anew, to be read before they are kept.

#[test]
fn the_compiler_says_what_to_do() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
