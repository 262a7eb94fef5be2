//! Replays the committed corpora: what a fuzzer once found interesting keeps every property.

use std::fs;
use std::path::Path;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("a file");
        // The harness prints this where the property panics.
        eprintln!("{}: {}", path.display(), input.escape_ascii());
        property(&input);
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn heads_of_the_corpus() {
    replay("head", baiwan_fuzz::head);
}

#[test]
fn bodies_of_the_corpus() {
    replay("body", baiwan_fuzz::body);
}

#[test]
fn answers_of_the_corpus() {
    replay("response", baiwan_fuzz::response);
}

#[test]
fn answers_that_clients_read_in_the_corpus() {
    replay("answer", baiwan_fuzz::answer);
}

#[test]
fn what_proxies_say_in_the_corpus() {
    replay("proxy", baiwan_fuzz::proxy);
}

#[test]
fn runs_of_the_engine_in_the_corpus() {
    replay("engine", baiwan_fuzz::engine);
}
