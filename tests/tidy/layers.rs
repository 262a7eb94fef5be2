//! Which crate may know which, and the lints that all of them keep.

use std::collections::BTreeSet;
use std::fs;

use crate::tree::{read, root};

/// Each crate and those of ours that it may depend on: only what stands above it.
pub(crate) const LAYERS: [(&str, &[&str]); 7] = [
    ("http1", &[]),
    ("driver", &[]),
    ("task", &[]),
    ("limits", &[]),
    ("baiwan", &["baiwan-http1", "baiwan-driver", "baiwan-task", "baiwan-limits"]),
    ("load", &["baiwan-http1", "baiwan-driver", "baiwan-task"]),
    ("service", &["baiwan", "baiwan-http1", "baiwan-limits", "baiwan-load", "baiwan-task"]),
];
/// What a pure crate must not know.
const EDGES: [&str; 8] = ["tokio", "rustix", "libc", "mio", "polling", "hyper", "socket2", "io-uring"];

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
