//! The keys of the JSON form are those of its document.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::sample;

/// Keys whose own keys are data.
const MAPS: [&str; 5] = ["errors", "error_details", "statuses", "connections.failures", "client.deaths"];

fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(path.clone());
                if !MAPS.contains(&path.as_str()) {
                    keys(value, &path, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// What stands for a distribution is documented once.
fn with_distributions_named(keys: BTreeSet<String>) -> BTreeSet<String> {
    const OF_A_DISTRIBUTION: [&str; 9] = ["count", "min", "mean", "p50", "p90", "p99", "p99_9", "p99_99", "max"];
    let whole: Vec<String> = keys.iter().filter_map(|key| key.strip_suffix(".p99_99").map(ToOwned::to_owned)).collect();
    let is_part = |key: &String| {
        key.rsplit_once('.').is_some_and(|(path, last)| {
            OF_A_DISTRIBUTION.contains(&last) && whole.iter().any(|distribution| distribution == path)
        })
    };
    keys.into_iter().filter(|key| !is_part(key)).collect()
}

#[test]
fn the_keys_of_a_report_are_those_of_its_document() {
    let mut report = sample::open_loop();
    report.events = sample::streams().events;
    report.expectations = "errors=0".parse::<baiwan_load::Expectations>().unwrap().judge(&report);
    let mut written = BTreeSet::new();
    keys(&serde_json::to_value(&report).unwrap(), "", &mut written);
    let written = with_distributions_named(written);
    assert!(written.len() > 60, "{written:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/load.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("\n## The JSON form\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let documented: BTreeSet<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect();
    assert_eq!(documented, written);
}

#[test]
fn a_report_can_be_read_again() {
    let mut report = sample::closed_loop();
    report.expectations = "rps>1,user_bytes<1".parse::<baiwan_load::Expectations>().unwrap().judge(&report);
    let text = serde_json::to_string(&report).unwrap();
    let copy: baiwan_load::Report = serde_json::from_str(&text).unwrap();
    let values: Vec<Option<f64>> = copy.expectations.iter().map(|expectation| expectation.value).collect();
    assert_eq!((copy.requests.answered, copy.series.len(), values), (400_000, 10, vec![Some(40_000.0), None]));
    assert!(copy.server.is_none());
}
