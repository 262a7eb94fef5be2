//! Every rule of the RFCs that is kept has a test.

use std::fs;

use crate::tree::{is_test, quoted, read, rust_files};

#[test]
fn the_rules_of_the_rfcs_have_tests() {
    let code: String =
        rust_files().iter().filter(|path| is_test(path)).map(|path| fs::read_to_string(path).unwrap()).collect();
    let text = read("docs/rfc.md");
    let mut rules = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| section")) {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let last = columns.last().unwrap();
        // What is no name of a function is a word of the protocol.
        let is_name = |word: &&str| {
            word.len() > 3
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let tests: Vec<&str> = quoted(last).filter(is_name).filter(|word| word.contains('_')).collect();
        for test in &tests {
            assert!(code.contains(&format!("fn {test}(")), "docs/rfc.md names the test {test}");
        }
        if columns.len() == 4 && ["http1", "engine", "axum"].contains(&columns[2]) {
            assert!(!tests.is_empty(), "no test for a rule: {row}");
            rules += 1;
        }
    }
    assert!(rules > 60, "{rules} rules with tests");
}
