//! Documents name what exists. What only the program knows, its flags and variables, is compared in `crates/service/tests`.

use std::fs;

use crate::layers::LAYERS;
use crate::tree::{quoted, read, root};

/// Those of the project's own words: at the top, and in `docs`.
fn documents() -> Vec<String> {
    let of = |folder: &str| {
        let files =
            fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let documents = files.filter(|name| name.ends_with(".md") && name != "CHANGELOG.md");
        documents.map(|name| format!("{folder}{name}")).collect::<Vec<_>>()
    };
    [of(""), of("docs/")].concat()
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
        let file = file.unwrap().path();
        // What is in a folder, the file of the same name says.
        if file.is_dir() || file.ends_with("tests.rs") {
            continue;
        }
        let file = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(text.contains(&format!("{file}`")), "ARCHITECTURE.md does not name engine/{file}");
    }
}

#[test]
fn every_path_in_a_document_exists() {
    for document in documents() {
        let text = read(&document);
        let places = ["crates/", "bench/", "tests/", ".ci/", "docs/", "deploy/"];
        for path in quoted(&text).filter(|text| places.iter().any(|place| text.starts_with(place))) {
            let path = path.split([' ', ':']).next().unwrap();
            assert!(root().join(path).exists(), "{document} names {path}");
        }
    }
}

#[test]
fn the_documented_examples_exist() {
    let text: String = documents().iter().map(read).collect();
    assert!(text.contains("--example "), "the documents name examples");
    for example in text.split("--example ").skip(1) {
        let example = example.split(['`', ' ', '\n']).next().unwrap();
        let path = root().join(format!("crates/baiwan/examples/{example}.rs"));
        assert!(path.exists(), "a document names the example {example}");
    }
}
