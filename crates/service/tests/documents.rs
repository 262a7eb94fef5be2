//! What documents say of the program is what it says of itself: its commands, flags and variables.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use baiwan::metrics::METRICS;
use baiwan_service::config;

fn read(document: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(document)).unwrap()
}

/// What the program says when it is called with these words.
fn said(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_baiwan")).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The text between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_documented_settings_are_those_of_the_service() {
    let settings = read("docs/settings.md");
    let (_, tables) = settings.split_once("\n## All settings\n").expect("docs/settings.md has all settings");
    let documented: Vec<&str> = tables.lines().filter(|line| line.starts_with("| `")).collect();
    let served = config::defaults().into_iter().map(|(row, default)| {
        // Words are no value that could be given.
        let default = if row.default.is_some() { default.into_owned() } else { format!("`{default}`") };
        let mark = if row.reloadable { " ↻" } else { "" };
        format!("| `{}`{mark} | {default} | {} |", row.name, row.help())
    });
    let served: Vec<String> = served.collect();
    assert!(documented == served, "the rows of docs/settings.md must be these:\n{}", served.join("\n"));
}

#[test]
fn the_documented_metrics_are_those_of_the_server() {
    let text = read("docs/operating.md");
    let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let served = METRICS.iter().map(|metric| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, unit) = (metric.name, metric.kind.name(), metric.unit.unwrap_or_default());
        format!("| `{name}` | {kind} | {unit} | {} | {} |", labels.join(", "), metric.help)
    });
    let served: Vec<String> = served.collect();
    assert!(documented == served, "the rows of docs/operating.md must be these:\n{}", served.join("\n"));
}

#[test]
fn the_flags_of_the_load_generator_are_those_of_its_document() {
    let help = said(&["load", "--help"]);
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
    let documents = [
        "README.md",
        "docs/service.md",
        "docs/settings.md",
        "docs/operating.md",
        "docs/library.md",
        "docs/load.md",
        "docs/figures.md",
    ];
    let text = documents.map(read).concat();
    let help = said(&["--help"]);
    let mut seen = 0;
    for command in quoted(&text).filter_map(|text| text.strip_prefix("baiwan ")) {
        let command = command.split(' ').next().unwrap();
        assert!(help.contains(&format!("  {command} ")), "a document names `baiwan {command}`");
        seen += 1;
    }
    assert!(seen > 0, "the documents name the commands");
}
