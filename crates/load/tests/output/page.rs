//! The page: it is whole, stands alone, and cannot be broken from outside.

use baiwan_load::page;

use crate::sample;

/// Every element that is opened is closed, in order.
fn check_nesting(html: &str) {
    const VOID: [&str; 3] = ["meta", "!DOCTYPE", "br"];
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    for (name, mut report) in
        [("open_loop", sample::open_loop()), ("closed_loop", sample::closed_loop()), ("streams", sample::streams())]
    {
        report.expectations = "alive=1000,lost=0".parse::<baiwan_load::Expectations>().unwrap().judge(&report);
        let html = page(&report);
        // To be looked at.
        std::fs::write(format!("{}/{name}.html", env!("CARGO_TARGET_TMPDIR")), &html).unwrap();
        check_nesting(&html);
        for forbidden in ["src=", "href=", "url(", "@import", "<script", "NaN", "{{", "}}<"] {
            assert!(!html.contains(forbidden), "{name}: {forbidden}");
        }
        assert!(html.contains("alive=1000</code> met: 1,000"), "{name}");
    }
}

#[test]
fn the_page_shows_what_was_measured() {
    let html = page(&sample::open_loop());
    for part in [
        "599,997 answered",
        "<b>61 B</b>",
        "kernel 7.24 KiB",
        "Latency by percentile",
        "99.99%",
        "p99: ",
        "connection reset by peer",
        "open loop",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let html = page(&sample::streams());
    assert!(html.contains("<b>1,000</b><span>4 missing") && !html.contains("Latency by percentile"));
}

#[test]
fn what_a_server_says_cannot_become_part_of_the_page() {
    let mut report = sample::open_loop();
    let evil = "</style><script>alert(1)</script>{{charts}}";
    report.url = evil.to_owned();
    report.command = evil.to_owned();
    report.started = evil.to_owned();
    report.error_details.insert(evil.to_owned(), 9);
    report.statuses.insert(evil.to_owned(), 9);
    report.errors.insert(evil.to_owned(), 9);
    report.phases[1].name = evil.to_owned();
    let html = page(&report);
    check_nesting(&html);
    assert!(!html.contains("<script") && html.matches("&lt;script").count() > 7);
    assert_eq!(
        html.matches("Latency by percentile").count(),
        page(&sample::open_loop()).matches("Latency by percentile").count()
    );
}

#[test]
fn a_day_of_seconds_makes_a_page_of_bounded_size() {
    let mut report = sample::open_loop();
    let second = report.series[30].clone();
    report.series = (1..=86_400).map(|at| baiwan_load::Second { at: f64::from(at), ..second.clone() }).collect();
    let html = page(&report);
    assert!(html.len() < 500_000, "{}", html.len());
    assert!(html.contains("requests/s: 10k"), "rates stay rates");
}
