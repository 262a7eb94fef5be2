//! What a request is told that a busy server does not serve: 503 with a problem document, or, to an `EventSource`, when to come back.
//!
//! The document is that of draft-ietf-httpapi-ratelimit-headers, "temporary-reduced-capacity" (RFC 9457 says how one is written). An
//! `EventSource` ends for ever at any status but 200 (HTML, "Server-sent events"), so it gets 200, a `retry:`, and the end.
//!
//! It is *not* the answer to a client that has asked too often: that is 429. The invariant: every refusal says when to come back, and not
//! to all clients the same.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

/// How many seconds a client that was refused stays away: a random number in this range.
const RETRY_SECONDS: std::ops::RangeInclusive<u64> = 1..=4;

const PROBLEM: &str = concat!(
    r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","#,
    r#""title":"Request cannot be satisfied due to temporary server capacity constraints","status":503}"#,
);

/// Whether a request is like that of an `EventSource`: a GET that accepts a stream of events.
pub(crate) fn is_event_source<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && accepts_events(request.headers())
}

fn accepts_events(fields: &HeaderMap) -> bool {
    let listed = fields.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    listed
        .filter_map(|range| range.split(|byte| *byte == b';').next())
        .any(|range| range.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// The answer to a request that is not served.
pub(crate) fn refuse(event_source: bool) -> Response<Bytes> {
    let millis = random_millis();
    let mut response = match event_source {
        true => event_stream(millis),
        false => problem(millis.div_ceil(1000)),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn event_stream(millis: u64) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("retry: {millis}\n\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn problem(seconds: u64) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(PROBLEM.as_bytes()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Milliseconds within [`RETRY_SECONDS`], so that those who were refused together do not come back together.
fn random_millis() -> u64 {
    let (least, most) = (RETRY_SECONDS.start() * 1000, RETRY_SECONDS.end() * 1000);
    least + RandomState::new().hash_one(0_u8) % (most - least + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(lines: &[&'static str]) -> bool {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(ACCEPT, HeaderValue::from_static(line));
        }
        accepts_events(&fields)
    }

    #[test]
    fn an_event_source_is_known_by_what_it_accepts() {
        assert!(accepts(&["text/event-stream"]) && accepts(&["text/html", "a/b;q=0.1 , Text/Event-Stream;q=1"]));
        assert!(!accepts(&[]) && !accepts(&["*/*"]) && !accepts(&["text/event-streams", "x/y;z=text/event-stream"]));
    }

    #[test]
    fn a_refusal_says_when_to_come_back_and_not_always_the_same() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let response = refuse(false);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
            let seconds: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!(RETRY_SECONDS.contains(&seconds));
            let body = str::from_utf8(response.body()).unwrap();
            assert!(body.contains("#temporary-reduced-capacity\"") && body.ends_with(r#""status":503}"#));

            let stream = refuse(true);
            assert_eq!(
                (stream.status(), &stream.headers()[CONTENT_TYPE]),
                (StatusCode::OK, &"text/event-stream".parse().unwrap())
            );
            seen.insert(stream.into_body());
        }
        assert!(seen.len() > 10);
    }
}
