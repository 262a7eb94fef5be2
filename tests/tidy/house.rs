//! How files are written: their lengths, what they begin with, what may not stand in them.

use std::fs;

use crate::tree::{is_test, name, rust_files, without_tests};

const LINES_MAX: usize = 500;
const UNSAFE_MAX: usize = 40;
/// Unsafe code that no user of Baiwan runs: what Baiwan is measured beside shows what the kernel alone costs, and its interface
/// for that is memory shared with the kernel.
const UNSAFE_BESIDE: [(&str, usize); 1] = [("bench/servers/src/bin/server-uring.rs", 3)];

#[test]
fn files_are_short_enough_to_be_read() {
    for path in rust_files().iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).unwrap();
        let (name, lines) = (name(path), without_tests(&text).lines().count());
        assert!(lines <= LINES_MAX, "{name} has {lines} lines, more than {LINES_MAX}");
    }
}

#[test]
fn every_module_says_what_it_is() {
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} does not begin with a module comment", name(&path));
    }
}

#[test]
fn unsafe_code_stands_in_the_driver_and_is_scarce() {
    let mut count = 0;
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        // Written apart, so that this file does not count itself.
        let blocks = text.matches(concat!("unsafe", " {")).count() + text.matches(concat!("unsafe", " impl")).count();
        if let Some((_, most)) = UNSAFE_BESIDE.iter().find(|(beside, _)| name(&path) == *beside) {
            assert!(blocks <= *most, "{} has {blocks} unsafe blocks", name(&path));
            continue;
        }
        let in_driver = name(&path).starts_with("crates/driver/src");
        assert!(blocks == 0 || in_driver, "{} has unsafe code", name(&path));
        count += blocks;
    }
    assert!((1..=UNSAFE_MAX).contains(&count), "{count} unsafe blocks");
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK:")];
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{} has a {mark}", name(&path));
        }
    }
}

#[test]
fn every_exception_to_a_lint_has_a_reason() {
    for path in rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        // Written apart, as above.
        for (start, _) in text.match_indices(concat!("[", "allow(")) {
            let attribute = text[start..].split(")]").next().unwrap();
            assert!(attribute.contains("reason ="), "{}: {attribute}", name(&path));
        }
    }
}

#[test]
fn every_file_is_part_of_a_crate() {
    for path in rust_files() {
        let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let Some(src) = parts.iter().rposition(|part| part == "src") else { continue };
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        if src + 2 == parts.len() && ["lib", "main"].contains(&file.as_str()) || parts.contains(&"bin".to_owned()) {
            continue;
        }
        assert_ne!(file, "mod", "{}: a module stands beside its folder, as `name.rs`", name(&path));
        // `a/b.rs` is declared in `a.rs`, and at the top in `lib.rs` or `main.rs`.
        let folder = path.parent().unwrap();
        let parents = [folder.join("lib.rs"), folder.join("main.rs"), folder.with_extension("rs")];
        let declared = parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
            text.lines().any(|line| {
                let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
                line == format!("mod {file};")
            })
        });
        assert!(declared, "{} is not declared by any module", name(&path));
    }
}
