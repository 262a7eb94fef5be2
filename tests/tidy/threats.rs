//! Every threat has its tests, and every test of a threat stands in the list.

use std::collections::BTreeSet;
use std::fs;

use crate::tree::{quoted, read, rust_files};

/// Names of the form `row_NN_…` of test functions in the tree.
fn tests_of_rows() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split(concat!("fn ", "row_")).skip(1) {
            found.insert(format!("row_{}", rest.split('(').next().unwrap()));
        }
    }
    found
}

#[test]
fn every_row_of_the_threats_has_its_tests_and_every_such_test_its_row() {
    const ROWS: u32 = 114;
    let text = read("docs/threats.md");
    let mut documented = BTreeSet::new();
    let numbers = (1..=ROWS).map(|number| number.to_string());
    for number in numbers.chain(["38a", "38b", "38c"].map(ToOwned::to_owned)) {
        let row = text.lines().find(|line| line.starts_with(&format!("| {number} |")));
        let row = row.unwrap_or_else(|| panic!("docs/threats.md has no row {number}"));
        let tests: Vec<&str> = quoted(row).filter(|name| name.starts_with("row_")).collect();
        let waits = row.contains("comes with") || row.contains("nobody:");
        assert!(waits || !tests.is_empty(), "docs/threats.md names no test for row {number}");
        for test in tests {
            let of_row = test.strip_prefix("row_").unwrap().split('_').next().unwrap().trim_start_matches('0');
            assert!(of_row == number, "docs/threats.md names {test} in row {number}");
            documented.insert(test.to_owned());
        }
    }
    assert_eq!(documented, tests_of_rows());
}
