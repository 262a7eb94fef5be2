//! What a client is told of a rate limit: fields of the answer, and the body of a refusal.
//!
//! ```text
//! HTTP/1.1 429 Too Many Requests
//! RateLimit-Policy: "login";q=10;w=60
//! RateLimit: "login";r=0;t=6
//! Retry-After: 7
//! Content-Type: application/problem+json
//!
//! {"type":"https://iana.org/assignments/http-problem-types#quota-exceeded",...,"violated-policies":["login"]}
//! ```
//!
//! `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-11, lists of Structured Fields (RFC 9651); the
//! problem document (RFC 9457) is the draft's section 5.1. `r` is what is left, and `t` the seconds within which a client can use no more
//! than that: until the next request would be let through if this one was not, else until the whole burst is there again.
//!
//! `Retry-After` (RFC 9110, section 10.2.3) is `t` and a random addition of up to a quarter of it, at least up to one second, so that
//! those who were refused together do not come back together (section 8.5 of the draft). It is never earlier than the end of `t`
//! (section 6).

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::decision::Decision;
use crate::quota::Quota;

/// The media type of [`Fields::problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// What [`Numbers`] have at the most: all digits of 32 and twice of 64 bits, what stands between them, and room for a word behind.
const NUMBERS_BYTES_MAX: usize = 10 + 2 * 20 + b";r=;t=\r\nRetry-After: \r\n".len() + 4;

/// All numbers of two digits.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What a limit's clients are told of it. A [`Limiter`](crate::Limiter) has one.
///
/// Where a method takes a `random` number, any will do, as long as clients cannot expect it.
///
/// ```
/// use baiwan_limits::Limiter;
///
/// let limiter = Limiter::new("login", "1/min".parse()?);
/// let now = tokio::time::Instant::now().into_std();
/// limiter.check(&"alice", 1, now);
/// let decision = limiter.check(&"alice", 1, now);
/// let mut head = Vec::new();
/// limiter.fields().append(&mut head, &decision, 0);
/// assert_eq!(
///     String::from_utf8_lossy(&head),
///     "RateLimit-Policy: \"login\";q=1;w=60\r\nRateLimit: \"login\";r=0;t=60\r\nRetry-After: 60\r\n",
/// );
/// # Ok::<(), baiwan_limits::QuotaError>(())
/// ```
#[derive(Debug)]
pub struct Fields {
    /// The name as a String of Structured Fields, which is one of JSON as well.
    quoted: Box<str>,
    policy: HeaderValue,
    /// The lines of both fields, up to the numbers.
    lines: Box<[u8]>,
    problem: Bytes,
    burst: u32,
}

impl Fields {
    /// `name` is printable ASCII.
    pub(crate) fn new(name: &str, quota: Quota) -> Self {
        let quoted = format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")).into_boxed_str();
        let policy = format!("{quoted};q={};w={}", quota.requests(), quota.window().as_secs());
        let problem = format!(
            "{{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
             \"title\":\"Request cannot be satisfied as assigned quota has been exceeded\",\"status\":429,\
             \"detail\":\"At most {quota} are allowed. Retry-After says when to ask again.\",\"violated-policies\":[{quoted}]}}"
        );
        Self {
            lines: format!("RateLimit-Policy: {policy}\r\nRateLimit: {quoted}").into_bytes().into(),
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("\"?\"")),
            problem: problem.into(),
            quoted,
            burst: quota.burst(),
        }
    }

    /// Whether the answer to a request should have fields: if it was refused, or less than a quarter of the burst is left.
    pub fn are_due(&self, decision: &Decision) -> bool {
        !decision.allowed || u64::from(decision.remaining) * 4 < u64::from(self.burst)
    }

    /// Appends whole field lines to a head that is written as bytes, each with its CRLF: `RateLimit-Policy`, `RateLimit`, and
    /// `Retry-After` if the request was refused.
    pub fn append(&self, head: &mut Vec<u8>, decision: &Decision, random: u64) {
        head.extend_from_slice(&self.lines);
        head.extend_from_slice(self.rest_of_lines(decision, random).as_slice());
    }

    /// What [`append`](Self::append) appends for each decision, up to the numbers.
    pub fn begin_of_lines(&self) -> &[u8] {
        &self.lines
    }

    /// The rest of what it appends, made without allocation.
    #[inline]
    pub fn rest_of_lines(&self, decision: &Decision, random: u64) -> Numbers {
        let mut numbers = Numbers::of(decision);
        if !decision.allowed {
            numbers.push(b"\r\nRetry-After: ");
            numbers.push_number(retry_after_seconds(decision, random));
        }
        numbers.push(b"\r\n");
        numbers
    }

    /// Adds the same fields to a map. Those of another limit stay there, beside these; of two `Retry-After`, the last one counts.
    pub fn insert(&self, headers: &mut HeaderMap, decision: &Decision, random: u64) {
        let mut limit = Vec::new();
        self.append_limit(&mut limit, decision);
        headers.append(POLICY, self.policy.clone());
        if let Ok(limit) = HeaderValue::try_from(limit) {
            headers.append(LIMIT, limit);
        }
        if !decision.allowed {
            headers.insert(RETRY_AFTER, retry_after_seconds(decision, random).into());
        }
    }

    /// The body of a 429, of the media type [`PROBLEM_MEDIA_TYPE`]. It names the limit and its quota, and nothing of the client.
    pub fn problem(&self) -> Bytes {
        self.problem.clone()
    }

    /// The same, borrowed.
    pub fn problem_bytes(&self) -> &[u8] {
        &self.problem
    }

    fn append_limit(&self, out: &mut Vec<u8>, decision: &Decision) {
        out.extend_from_slice(self.quoted.as_bytes());
        out.extend_from_slice(Numbers::of(decision).as_slice());
    }
}

/// The numbers of field lines, as text. A refusal must be cheap: they need no memory, and not the formatter of the standard library.
#[derive(Debug)]
pub struct Numbers {
    bytes: [u8; NUMBERS_BYTES_MAX],
    length: usize,
}

impl Numbers {
    #[inline]
    fn of(decision: &Decision) -> Self {
        let mut numbers = Self { bytes: [0; NUMBERS_BYTES_MAX], length: 0 };
        numbers.push(b";r=");
        numbers.push_number(decision.remaining.into());
        numbers.push(b";t=");
        numbers.push_number(window_seconds(decision));
        numbers
    }

    /// The text.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    #[inline]
    fn push<const N: usize>(&mut self, text: &[u8; N]) {
        self.bytes[self.length..][..N].copy_from_slice(text);
        self.length += N;
    }

    #[inline]
    fn push_number(&mut self, number: u64) {
        match number {
            0..10_000 => self.push_four_digits(number as usize),
            _ => self.push_digits(number),
        }
    }

    /// The usual case: all four digits as one word, without the zeros that lead.
    #[inline]
    fn push_four_digits(&mut self, number: usize) {
        let zeros = usize::from(number < 10) + usize::from(number < 100) + usize::from(number < 1_000);
        let [[a, b], [c, d]] = [PAIRS[number / 100], PAIRS[number % 100]];
        let word = u32::from_le_bytes([a, b, c, d]) >> (8 * zeros);
        self.bytes[self.length..][..4].copy_from_slice(&word.to_le_bytes());
        self.length += 4 - zeros;
    }

    fn push_digits(&mut self, mut number: u64) {
        let (mut digits, mut bound) = (1, 10);
        while number >= bound && digits < 20 {
            digits += 1;
            bound = bound.saturating_mul(10);
        }
        for place in self.bytes[self.length..][..digits].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.length += digits;
    }
}

/// The effective window, `t`.
fn window_seconds(decision: &Decision) -> u64 {
    seconds_ceil(if decision.allowed { decision.reset } else { decision.retry_after })
}

/// The window, and up to a quarter more, at least up to a second.
fn retry_after_seconds(decision: &Decision, random: u64) -> u64 {
    let window = window_seconds(decision);
    window + random % ((window / 4).max(1) + 1)
}

fn seconds_ceil(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(allowed: bool, remaining: u32, millis: u64) -> Decision {
        let time = Duration::from_millis(millis);
        Decision { allowed, remaining, reset: time, retry_after: if allowed { Duration::ZERO } else { time } }
    }

    fn text(fields: &Fields, decision: &Decision, random: u64) -> String {
        let mut head = Vec::new();
        fields.append(&mut head, decision, random);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn fields_are_due_on_refusals_and_below_a_quarter() {
        let fields = Fields::new("default", "100/s".parse().unwrap());
        assert!(!fields.are_due(&decision(true, 25, 0)));
        assert!(fields.are_due(&decision(true, 24, 0)));
        assert!(fields.are_due(&decision(false, 99, 0)));
        let single = Fields::new("default", "1/s".parse().unwrap());
        assert!(single.are_due(&decision(true, 0, 0)));
    }

    #[test]
    fn lines_and_map_say_the_same() {
        let fields = Fields::new("by \"key\" \\ 1", "1000/min burst 5".parse().unwrap());
        for (decision, random) in
            [(decision(true, 1, 1), 9), (decision(false, 0, 60_000), 7), (decision(false, 2, 1_001), 1)]
        {
            let mut map = HeaderMap::new();
            fields.insert(&mut map, &decision, random);
            let lines = text(&fields, &decision, random);
            let lines: Vec<(String, &str)> = lines
                .lines()
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_lowercase(), value))
                .collect();
            let map: Vec<(String, &str)> =
                map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap())).collect();
            assert_eq!(map, lines);
            assert_eq!(lines[0].1, r#""by \"key\" \\ 1";q=1000;w=60"#);
        }
        assert!(
            text(&fields, &decision(true, 1, 1), 0).ends_with("\";r=1;t=1\r\n"),
            "no Retry-After if nothing was refused"
        );
    }

    #[test]
    fn retry_after_is_not_before_the_window_ends_and_is_spread() {
        for (millis, least, most) in
            [(1, 1, 2), (1_000, 1, 2), (1_001, 2, 3), (8_000, 8, 10), (3_600_000, 3_600, 4_500)]
        {
            let refused = decision(false, 0, millis);
            let seconds = (0..5_000).map(|random| retry_after_seconds(&refused, random));
            assert_eq!((seconds.clone().min(), seconds.max()), (Some(least), Some(most)), "{millis} ms");
            assert_eq!(window_seconds(&refused), least);
        }
    }

    #[test]
    fn numbers_are_written_with_all_their_digits() {
        for number in (0..10_100).chain([99_999, 100_000, u64::MAX]) {
            let mut numbers = Numbers { bytes: [0; NUMBERS_BYTES_MAX], length: 0 };
            numbers.push_number(number);
            assert_eq!(String::from_utf8(numbers.as_slice().to_vec()).unwrap(), number.to_string());
        }
        let most = Decision {
            allowed: false,
            remaining: u32::MAX,
            reset: Duration::MAX,
            retry_after: Duration::from_secs(u64::MAX / 2),
        };
        let fields = Fields::new("default", "1/h".parse().unwrap());
        assert!(text(&fields, &most, u64::MAX).ends_with("\r\n"), "there is room for the largest");
    }

    #[test]
    fn the_problem_names_the_policy_and_is_json() {
        let fields = Fields::new("a\"b\\c", "10/min".parse().unwrap());
        let problem: serde_json::Value = serde_json::from_slice(&fields.problem()).unwrap();
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(problem["status"], 429);
        assert_eq!(problem["violated-policies"], serde_json::json!(["a\"b\\c"]));
        assert!(problem["detail"].as_str().unwrap().contains("10/min"));
    }
}
