//! How a browser's `EventSource` is refused.
//!
//! Any status but 200 closes an `EventSource` for ever (WHATWG HTML, section 9.2.3, "fail the connection"). One that is to come back
//! later gets 200, the time after which it reconnects (`retry`, section 9.2.6), and the end.

use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, Method};

/// The media type of [`retry_event`].
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether a request names `text/event-stream` in `Accept`, with a quality other than 0. A wildcard does not count: what accepts
/// everything is no `EventSource`.
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    // Most are `*/*`, and shorter.
    let values = headers.get_all(ACCEPT).iter().filter(|value| value.len() >= EVENT_STREAM.len());
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|range| range.eq_ignore_ascii_case(EVENT_STREAM)) && !parts.any(is_quality_zero)
    })
}

/// Whether a request is like that of an `EventSource`: a GET that [accepts a stream of events](accepts_event_stream). Programs that POST with
/// such an `Accept` read the status of the answer, so they are told it.
pub fn is_event_source(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::GET && accepts_event_stream(headers)
}

fn is_quality_zero(parameter: &str) -> bool {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    value.and_then(|value| value.parse::<f32>().ok()) == Some(0.0)
}

/// The body of the answer: an `EventSource` that reads it reconnects after `retry_after`, at least a second, and a random addition of
/// up to a quarter of it, at least up to a second. `random` is any number that clients cannot expect.
///
/// ```
/// let body = baiwan_limits::retry_event(std::time::Duration::from_secs(8), 1_999);
/// assert_eq!(body, "retry: 9999\n\n");
/// ```
pub fn retry_event(retry_after: Duration, random: u64) -> String {
    let least_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).clamp(1_000, 86_400_000);
    let spread_ms = (least_ms / 4).max(1_000);
    format!("retry: {}\n\n", least_ms + random % spread_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_source_is_known_by_what_it_accepts() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; q=0.9", true),
            ("text/html, text/event-stream;q=1", true),
            ("text/event-stream; q=0.0", false),
            ("text/event-streams", false),
            ("text/html;x=text/event-stream", false),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(accepts_event_stream(&headers), expected, "{accept}");
            assert_eq!(is_event_source(&Method::GET, &headers), expected, "{accept}");
            assert!(!is_event_source(&Method::POST, &headers), "no EventSource posts");
        }
        assert!(!accepts_event_stream(&HeaderMap::new()));
    }

    #[test]
    fn those_who_are_refused_together_come_back_apart_and_not_too_early() {
        for (retry_after, least, most) in [(Duration::ZERO, 1_000, 1_999), (Duration::from_secs(40), 40_000, 49_999)] {
            let times =
                (0..10_000).map(|random| retry_event(retry_after, random)[7..].trim_end().parse::<u64>().unwrap());
            assert_eq!((times.clone().min(), times.max()), (Some(least), Some(most)));
        }
        assert_eq!(retry_event(Duration::MAX, 0), "retry: 86400000\n\n");
    }
}
