//! The rules of the house that a reviewer should not have to check.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 800;
const UNSAFE_MAX: usize = 40;
/// Unsafe code that no user of Baiwan runs: what Baiwan is measured beside shows what the kernel alone costs, and its interface
/// for that is memory shared with the kernel.
const UNSAFE_BESIDE: [(&str, usize); 1] = [("bench/servers/src/bin/server-uring.rs", 3)];

/// Each crate and those of ours that it may depend on: only what stands above it.
const LAYERS: [(&str, &[&str]); 6] = [
    ("http1", &[]),
    ("driver", &[]),
    ("task", &[]),
    ("baiwan", &["baiwan-http1", "baiwan-driver", "baiwan-task"]),
    ("load", &["baiwan-http1", "baiwan-driver", "baiwan-task"]),
    ("service", &["baiwan", "baiwan-load", "baiwan-task"]),
];
/// What is written for readers.
const DOCUMENTS: [&str; 12] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/decisions.md",
    "docs/figures.md",
    "docs/library.md",
    "docs/load.md",
    "docs/service.md",
    "docs/settings.md",
    "docs/rfc.md",
    "docs/threats.md",
];
/// What a pure crate must not know.
const EDGES: [&str; 8] = ["tokio", "rustix", "libc", "mio", "polling", "hyper", "socket2", "io-uring"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// All files under a folder, build output apart.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && !path.ends_with("target") && !path.ends_with("node_modules") {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn all_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found
}

fn rust_files() -> Vec<PathBuf> {
    all_files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

#[test]
fn files_are_short_enough_to_be_read() {
    for path in rust_files().iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", name(path));
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
fn crates_depend_only_upwards_and_pure_ones_know_no_edge() {
    for (krate, allowed) in LAYERS {
        let manifest = read(format!("crates/{krate}/Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("[dev-dependencies]").next().unwrap();
        let dependencies: Vec<&str> = dependencies
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|name| !name.is_empty())
            .collect();
        for dependency in &dependencies {
            let ours = dependency.starts_with("baiwan");
            assert!(!ours || allowed.contains(dependency), "{krate} must not depend on {dependency}");
            let pure = krate == "http1";
            assert!(!pure || !EDGES.contains(dependency), "{krate} is pure and must not depend on {dependency}");
        }
    }
    let members: BTreeSet<String> =
        fs::read_dir(root().join("crates")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(members, LAYERS.iter().map(|(krate, _)| (*krate).to_owned()).collect(), "every crate has a layer");
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
        // `a/mod.rs` is declared beside `a`, `a/b.rs` in `a.rs` or `a/mod.rs`, and at the top in `lib.rs` or `main.rs`.
        let (module, folder) = match file.as_str() {
            "mod" => {
                let folder = path.parent().unwrap();
                (folder.file_name().unwrap().to_string_lossy().into_owned(), folder.parent().unwrap())
            }
            _ => (file, path.parent().unwrap()),
        };
        let parents =
            [folder.join("lib.rs"), folder.join("main.rs"), folder.join("mod.rs"), folder.with_extension("rs")];
        let declared = parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
            text.lines().any(|line| {
                let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
                line == format!("mod {module};")
            })
        });
        assert!(declared, "{} is not declared by any module", name(&path));
    }
}

#[test]
fn the_architecture_names_every_crate_and_folder() {
    let text = read("ARCHITECTURE.md");
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // What Git and Cargo keep for themselves, and `crates`, whose members follow.
        if entry.path().is_dir() && ![".git", "target", "crates"].contains(&name.as_str()) {
            assert!(text.contains(&format!("`{name}")), "ARCHITECTURE.md does not name {name}");
        }
    }
    for (krate, _) in LAYERS {
        assert!(text.contains(&format!("`crates/{krate}`")), "ARCHITECTURE.md does not name crates/{krate}");
    }
    for file in fs::read_dir(root().join("crates/baiwan/src/engine")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let known = ["tests", "tests.rs"].contains(&file.as_str()) || text.contains(&format!("{file}`"));
        assert!(known, "ARCHITECTURE.md does not name engine/{file}");
    }
}

/// The text between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_path_in_a_document_exists() {
    for document in DOCUMENTS {
        let text = read(document);
        let places = ["crates/", "bench/", "tests/", ".ci/", "docs/"];
        for path in quoted(&text).filter(|text| places.iter().any(|place| text.starts_with(place))) {
            let path = path.split([' ', ':']).next().unwrap();
            assert!(root().join(path).exists(), "{document} names {path}");
        }
    }
}

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

#[test]
fn the_documented_variables_are_those_of_the_service() {
    let help = Command::new(env!("CARGO_BIN_EXE_baiwan")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let served: BTreeSet<&str> =
        help.split("[env: ").skip(1).map(|rest| rest.split([']', '=']).next().unwrap()).collect();
    assert!(served.len() > 5, "the help lists variables: {help}");
    let settings = read("docs/settings.md");
    let table = settings.split("| variable |").nth(1).expect("docs/settings.md has a table of variables");
    let table: String = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect::<Vec<_>>().join("\n");
    let is_variable = |text: &&str| text.len() > 3 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let documented: BTreeSet<&str> =
        table.lines().filter_map(|line| line.split('|').nth(1)).flat_map(quoted).filter(is_variable).collect();
    assert_eq!(documented, served);
}

#[test]
fn the_flags_of_the_load_generator_are_those_of_its_document() {
    let help = Command::new(env!("CARGO_BIN_EXE_baiwan")).args(["load", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    // Lines such as `  -X, --method <METHOD>`; `--help` explains itself.
    let flag = |line: &str| {
        let long = line.trim_start().trim_start_matches(|letter| letter != '-').split("--").nth(1)?;
        let is_option = line.starts_with("  ") && line.trim_start().starts_with('-');
        let name = long.split([' ', '=']).next()?;
        (is_option && name != "help").then(|| format!("--{name}"))
    };
    let offered: BTreeSet<String> = help.lines().filter_map(flag).collect();
    assert!(offered.len() > 25, "the help lists flags: {help}");
    let text = read("docs/load.md");
    let flags = text.split("\n## Flags\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = flags.lines().filter(|line| line.starts_with("| `--"));
    let mut documented = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let name = quoted(cells[1]).next().unwrap();
        let example = quoted(cells[cells.len() - 2]).next().unwrap();
        let short = quoted(cells[1]).nth(1).unwrap_or(name);
        assert!([name, short].contains(&example.split(' ').next().unwrap()), "the example of {name} is {example}");
        documented.insert(name.to_owned());
    }
    assert_eq!(documented, offered);
}

#[test]
fn the_documented_commands_exist() {
    let text = DOCUMENTS.map(read).concat();
    let help = Command::new(env!("CARGO_BIN_EXE_baiwan")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut seen = 0;
    for command in quoted(&text).filter_map(|text| text.strip_prefix("baiwan ")) {
        let command = command.split(' ').next().unwrap();
        assert!(help.contains(&format!("  {command} ")), "a document names `baiwan {command}`");
        seen += 1;
    }
    assert!(seen > 0, "the documents name the commands");
    for example in text.split("--example ").skip(1) {
        let example = example.split(['`', ' ', '\n']).next().unwrap();
        let path = root().join(format!("crates/baiwan/examples/{example}.rs"));
        assert!(path.exists(), "a document names the example {example}");
    }
}

#[test]
fn every_crate_keeps_the_lints_of_the_workspace() {
    let workspace = read("Cargo.toml");
    let lints = |text: &str, table: &str| -> BTreeSet<String> {
        let body = text.split(&format!("[{table}]\n")).nth(1).unwrap_or_default();
        let lines = body.lines().take_while(|line| !line.starts_with('['));
        lines.filter(|line| line.contains('=')).map(ToOwned::to_owned).collect()
    };
    for (krate, _) in LAYERS {
        let manifest = read(format!("crates/{krate}/Cargo.toml"));
        if krate != "driver" {
            assert!(manifest.contains("[lints]\nworkspace = true"), "{krate} has lints of its own");
            continue;
        }
        for table in ["rust", "clippy"] {
            let mut ours = lints(&manifest, &format!("lints.{table}"));
            let mut theirs = lints(&workspace, &format!("workspace.lints.{table}"));
            ours.retain(|line| !line.starts_with("unsafe_code"));
            theirs.retain(|line| !line.starts_with("unsafe_code"));
            assert_eq!(ours, theirs, "the driver differs in unsafe_code alone");
        }
    }
}

/// The platform that this is built on; what others need may not have been fetched.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn every_dependency_has_a_licence_that_ours_can_live_with() {
    let allowed = [
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Unicode-3.0",
        "Zlib",
        "Unlicense",
        "0BSD",
        "CC0-1.0",
        "BSL-1.0",
        "MIT-0",
        "Apache-2.0 WITH LLVM-exception",
        "CDLA-Permissive-2.0",
    ];
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        // An expression is fine if one of its alternatives needs only licences of the list.
        let fine = licence.split(" OR ").any(|alternative| {
            let parts = alternative.trim_matches(['(', ')', ' ']).split(" AND ");
            parts.map(|part| part.trim_matches(['(', ')', ' '])).all(|part| allowed.contains(&part))
        });
        assert!(fine, "{} has the licence {licence:?}", package["name"]);
    }
}
