//! How much the server takes of one request (rows 39 to 41).

use crate::case::{Cases, get, post};

#[test]
fn row_39_targets_have_a_limit() {
    let mut cases = Cases::default();
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    cases.answered(&[404], get(&path(8192), ""));
    cases.answered(&[404], get(&path(4096), ""));
    cases.refused(414, get(&path(8193), ""));
    cases.refused(414, get(&path(15_000), ""));
    cases.refused(414, get(&path(100_000), ""));
    cases.refused(414, get(&path(1_000_000), ""));
    cases.refused(414, get(&format!("/?{}", "a".repeat(9000)), ""));
    cases.refused(414, get(&format!("http://probe/{}", "a".repeat(9000)), ""));
    cases.run();
}

#[test]
fn row_39_heads_have_a_limit() {
    let mut cases = Cases::default();
    cases.answered(&[200], get("/", &format!("A: {}\r\n", "b".repeat(8000)))).with_body("root");
    cases.answered(&[200], get("/", &format!("A: {}\r\n", "b".repeat(16_384 - 36)))).with_body("root");
    cases.refused(431, get("/", &format!("A: {}\r\n", "b".repeat(16_384 - 35))));
    cases.refused(431, get("/", &format!("A: {}\r\n", "b".repeat(100_000))));
    cases.refused(431, get("/", &format!("{}: b\r\n", "A".repeat(100_000))));
    cases.refused(431, get("/", &format!("A: {}\r\n", "b".repeat(1_000_000))));
    cases.refused(431, get("/", &format!("A: {}\r\n", "b".repeat(1000)).repeat(20)));
    cases.refused(431, get("/", &format!("Cookie: {}\r\n", "a=b; ".repeat(10_000))));
    cases.run();
}

#[test]
fn row_39_row_57_fields_have_a_limit() {
    let mut cases = Cases::default();
    let many = |count: usize| (0..count).map(|index| format!("x-{index}: y\r\n")).collect::<String>();
    // And Host.
    cases.answered(&[200], get("/", &many(99))).with_body("root");
    cases.refused(431, get("/", &many(100)));
    cases.refused(431, get("/", &many(1000)));
    cases.refused(431, get("/", &many(10_000)));
    cases.refused(431, get("/", &"A: b\r\n".repeat(10_000)));
    cases.run();
}

#[test]
fn row_41_a_body_beyond_the_limit_of_the_app_is_refused() {
    let mut cases = Cases::default();
    // What extractors collect has at most 2 MiB; the rest of these is more than is worth reading.
    let body = "x".repeat(3_000_000);
    cases.answered_last(&[413], post("/echo", &format!("Content-Length: {}\r\n", body.len()), &body));
    let body = "x".repeat(2 * 1024 * 1024);
    cases.answered(&[200], post("/echo", &format!("Content-Length: {}\r\n", body.len()), &body)).with_body(body);
    cases.run();
}
