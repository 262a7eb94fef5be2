//! What a request is told that a busy server does not serve: 503 with a problem document, or, to an `EventSource`, when to come back.
//!
//! The document is that of draft-ietf-httpapi-ratelimit-headers-11, "temporary-reduced-capacity" (RFC 9457 says how one is written). It is
//! *not* the answer to a client that has asked too often: that is 429 (`fields`).
//!
//! The invariant: every refusal says when to come back, and not to all clients the same.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::event_source::{EVENT_STREAM, retry_event};
use crate::fields::PROBLEM_MEDIA_TYPE;

/// How many seconds a client that was refused stays away: a random number in this range.
const RETRY_SECONDS: std::ops::RangeInclusive<u64> = 1..=3;

const PROBLEM: &str = concat!(
    r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","#,
    r#""title":"Request cannot be satisfied due to temporary server capacity constraints","status":503}"#,
);

/// The answer to a request that is not served.
pub(crate) fn refuse(event_source: bool) -> Response<Bytes> {
    // Every hasher that is made has another seed.
    let random = RandomState::new().hash_one(());
    let mut response = match event_source {
        true => event_stream(random),
        false => problem(random),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn event_stream(random: u64) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(retry_event(Duration::from_secs(random % 3), random)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    response
}

fn problem(random: u64) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(PROBLEM.as_bytes()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    let (least, most) = (RETRY_SECONDS.start(), RETRY_SECONDS.end());
    fields.insert(RETRY_AFTER, HeaderValue::from(least + random % (most - least + 1)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back_and_not_always_the_same() {
        let (mut seconds_seen, mut events_seen) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        for _ in 0..200 {
            let response = refuse(false);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
            let seconds: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!(RETRY_SECONDS.contains(&seconds));
            seconds_seen.insert(seconds);
            let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(problem["status"], 503);
            assert!(problem["type"].as_str().unwrap().ends_with("#temporary-reduced-capacity"));

            let events = refuse(true);
            assert_eq!(
                (events.status(), &events.headers()[CONTENT_TYPE]),
                (StatusCode::OK, &HeaderValue::from_static(EVENT_STREAM))
            );
            events_seen.insert(events.into_body());
        }
        assert_eq!(seconds_seen.len(), 3);
        assert!(events_seen.len() > 10);
    }
}
