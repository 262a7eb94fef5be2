//! What a scrape of the service has, compared with the table of the documentation: no metric without a row, no row without a metric.

use std::collections::{BTreeMap, BTreeSet};

use crate::admin_side::with_admin;
use crate::running::Running;

/// Kind and labels of a metric.
type Shape = (String, BTreeSet<String>);

/// Absent where nothing limits memory, and where no instances share a rate limit.
const MAY_BE_ABSENT: [&str; 4] = [
    "baiwan_memory_used_ratio",
    "baiwan_memory_limit_bytes",
    "baiwan_rate_limit_store_up",
    "baiwan_rate_limit_store_undecided_total",
];

/// The rows of `docs/operating.md`.
fn documented() -> BTreeMap<String, Shape> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/operating.md")).unwrap();
    let bare = |text: &str| text.trim().trim_matches('`').to_owned();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let labels = cells[3].split(',').map(bare).filter(|label| !label.is_empty()).collect();
        // What OpenMetrics calls an info is a gauge in the text format.
        (bare(cells[0]), (bare(cells[1]).replace("info", "gauge"), labels))
    };
    text.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

/// The metrics of a scrape; the labels of one that has no series yet are not known.
fn scraped(text: &str) -> BTreeMap<String, (String, Option<BTreeSet<String>>)> {
    let mut metrics = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            metrics.insert(name.to_owned(), (kind.to_owned(), None));
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = bare.filter(|bare| metrics.contains_key(*bare)).unwrap_or(name);
        let labels = labels.split("\",").filter_map(|label| label.split('=').next());
        let labels = labels.filter(|label| !["", "le", "}"].contains(label)).map(ToOwned::to_owned).collect();
        metrics.get_mut(name).unwrap_or_else(|| panic!("{name} has a kind")).1 = Some(labels);
    }
    metrics
}

#[test]
fn a_scrape_has_what_the_documentation_says_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_admin(directory.path());
    command.env("ACCESS_LOG", directory.path().join("access.log"));
    let service = Running::start(command);
    let mut client = service.connect();
    assert_eq!(client.ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap().status, 201);
    assert_eq!(client.ask("GET", "/api/users", "").unwrap().status, 200);
    let scrape = service.admin("/metrics");
    let (documented, scraped) = (documented(), scraped(&String::from_utf8(scrape.body).unwrap()));
    for (name, (kind, labels)) in &scraped {
        let (expected_kind, expected_labels) =
            documented.get(name).unwrap_or_else(|| panic!("docs/operating.md has no row for {name}"));
        assert_eq!(kind, expected_kind, "{name}");
        assert!(labels.as_ref().is_none_or(|labels| labels == expected_labels), "{name} has the labels {labels:?}");
    }
    let absent: Vec<_> = documented.keys().filter(|name| !scraped.contains_key(*name)).collect();
    assert!(absent.iter().all(|name| MAY_BE_ABSENT.contains(&name.as_str())), "no scrape has {absent:?}");
}
