//! What crates.io and docs.rs show of each crate, and what is never published.

use std::fs;

use crate::layers::LAYERS;
use crate::tree::{read, root};

/// Those of the categories of crates.io that ours are in; it refuses a crate with one that it does not know.
const CATEGORIES: [&str; 10] = [
    "asynchronous",
    "command-line-utilities",
    "concurrency",
    "development-tools::profiling",
    "development-tools::testing",
    "network-programming",
    "os::linux-apis",
    "parser-implementations",
    "web-programming",
    "web-programming::http-server",
];
/// What crates.io takes.
const KEYWORDS_MAX: usize = 5;
const KEYWORD_LENGTH_MAX: usize = 20;

fn package(krate: &str) -> String {
    if krate == "baiwan" { krate.to_owned() } else { format!("baiwan-{krate}") }
}

/// The text of a key, without its quotes, if the manifest has it.
fn value<'a>(manifest: &'a str, key: &str) -> Option<&'a str> {
    let line = manifest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.map(|value| value.trim_matches('"'))
}

fn list(manifest: &str, key: &str) -> Vec<String> {
    let value = value(manifest, key).unwrap_or_default();
    value.split('"').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

#[test]
fn every_crate_says_what_it_is_where_it_is_published() {
    for (krate, _) in LAYERS {
        let manifest = read(format!("crates/{krate}/Cargo.toml"));
        let package = package(krate);
        assert_eq!(value(&manifest, "name"), Some(&*package));
        assert!(value(&manifest, "description").is_some_and(|text| text.len() > 30), "{package} has a description");
        assert_eq!(value(&manifest, "documentation"), Some(&*format!("https://docs.rs/{package}")));
        assert_eq!(value(&manifest, "readme"), Some("README.md"), "{package}");
        let readme = read(format!("crates/{krate}/README.md"));
        assert!(readme.starts_with(&format!("# {package}\n")), "the README of {package} begins with its name");
        // Nobody who reads it on crates.io has the files beside it.
        assert!(!readme.contains("](../") && !readme.contains("](docs/"), "the README of {package} links to files");

        let (keywords, categories) = (list(&manifest, "keywords"), list(&manifest, "categories"));
        assert!((1..=KEYWORDS_MAX).contains(&keywords.len()), "{package} has the keywords {keywords:?}");
        assert!(keywords.iter().all(|keyword| keyword.len() <= KEYWORD_LENGTH_MAX), "{package}: {keywords:?}");
        assert!((1..=KEYWORDS_MAX).contains(&categories.len()), "{package} has the categories {categories:?}");
        assert!(categories.iter().all(|category| CATEGORIES.contains(&&**category)), "{package}: {categories:?}");
        assert!(!manifest.contains("publish = false"), "{package} is published");
    }
}

#[test]
fn every_package_has_the_licences_and_no_tests() {
    for (krate, _) in LAYERS {
        let include = list(&read(format!("crates/{krate}/Cargo.toml")), "include");
        for needed in ["/src", "/README.md", "/LICENSE-*"] {
            assert!(include.iter().any(|path| path == needed), "{krate} includes {needed}: {include:?}");
        }
        assert!(!include.iter().any(|path| path.starts_with("/tests")), "tests need files of the whole tree");
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            assert_eq!(read(format!("crates/{krate}/{licence}")), read(licence), "{krate}");
        }
    }
}

#[test]
fn what_only_tests_and_measures_is_never_published() {
    let mut seen = 0;
    for folder in ["tests", "bench", "fuzz"] {
        let at_the_top = root().join(folder).join("Cargo.toml");
        let below = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path().join("Cargo.toml"));
        for manifest in below.chain([at_the_top]).filter(|path| path.exists()) {
            let text = fs::read_to_string(&manifest).unwrap();
            let own = text.contains("\npublish = false") || text.contains("\npublish.workspace = true");
            assert!(own, "{} can be published", manifest.display());
            seen += 1;
        }
    }
    assert!(seen > 5);
}

/// In the order of the layers: a crate can be published when those that it needs are there.
#[test]
fn the_documented_order_of_publishing_is_that_of_the_layers() {
    let text = read("docs/releasing.md");
    let published: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("cargo publish -p ")).collect();
    let published: Vec<&str> = published.iter().map(|rest| rest.split(' ').next().unwrap()).collect();
    let mut before: Vec<String> = Vec::new();
    for name in published {
        let krate = name.strip_prefix("baiwan-").unwrap_or(name);
        let (_, needed) = LAYERS.iter().find(|(layer, _)| *layer == krate).expect("a crate of ours");
        for need in *needed {
            assert!(before.iter().any(|earlier| earlier == need), "{name} needs {need}, which comes later");
        }
        before.push(name.to_owned());
    }
    assert_eq!(before.len(), LAYERS.len(), "every crate is published: {before:?}");
}
