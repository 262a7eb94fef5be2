//! What the compiler says of programs that cannot be served: it names what to do.
//!
//! Each program in `ui` lacks one thing, and the text beside it is what the compiler says of it. Compilers word and order their notes
//! differently, so the texts are compared with the version in `rust-version` alone; with `CI` in the environment any other one fails.
//! After a change, `TRYBUILD=overwrite cargo test -p baiwan-messages` writes them anew, to be read before they are kept.

use std::process::Command;

#[test]
fn the_compiler_says_what_to_do() {
    let version = Command::new("rustc").arg("--version").output().expect("a compiler has built this").stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    if !version.starts_with(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".")) {
        assert!(std::env::var_os("CI").is_none(), "{version} words its messages differently: nothing is compared");
        eprintln!("not compared: this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
