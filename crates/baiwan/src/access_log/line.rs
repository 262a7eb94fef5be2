//! What is written of a record: a JSON object, or text for people.
//!
//! The invariant: a line is printable ASCII and ends once, whatever is in the record.

use std::net::SocketAddr;

use super::record::Record;
use crate::lines::{push_escaped, push_json};

/// Methods that are named as they are.
const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;

/// Writes lines; it keeps the text of the second that was last.
#[derive(Debug)]
pub(super) struct LineWriter {
    is_json: bool,
    /// Since 1970.
    second: i64,
    /// `2026-11-22T10:15:00`
    second_text: String,
}

impl LineWriter {
    pub(super) fn new(is_json: bool) -> Self {
        let mut writer = Self { is_json, second: 0, second_text: String::new() };
        writer.set_second(0);
        writer
    }

    /// Appends the line of an exchange that ended as many microseconds after the beginning of 1970.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, record: &Record<'_>, ended_us: i64) {
        match self.is_json {
            true => self.push_object(out, record, ended_us),
            false => self.push_text(out, record, ended_us),
        }
        out.push(b'\n');
    }

    /// Appends the line that says how many others are missing here.
    pub(super) fn push_gap(&mut self, out: &mut Vec<u8>, lines: u64, now_us: i64) {
        if self.is_json {
            out.extend_from_slice(b"{\"timestamp\":\"");
            self.push_time(out, now_us);
            out.extend_from_slice(b"\",\"dropped\":");
            push_number(out, lines);
            out.extend_from_slice(b"}\n");
        } else {
            self.push_time(out, now_us);
            out.push(b' ');
            push_number(out, lines);
            out.extend_from_slice(b" lines are missing here: they could not be written in time\n");
        }
    }

    fn push_object(&mut self, out: &mut Vec<u8>, record: &Record<'_>, ended_us: i64) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        self.push_time(out, ended_us);
        out.push(b'"');
        match record.method {
            [] => {}
            method if METHODS.contains(&method) => push_member(out, "http.request.method", method),
            method => {
                push_member(out, "http.request.method", b"_OTHER");
                push_member(out, "http.request.method_original", method);
            }
        }
        push_member(out, "url.path", record.path);
        push_member(out, "http.route", record.route);
        push_member_number(out, "http.response.status_code", record.status.into());
        out.extend_from_slice(b",\"duration_ms\":");
        push_milliseconds(out, record.duration_ns);
        push_client(out, record.client);
        push_size(out, "http.request.size", record.bytes_in);
        push_size(out, "http.response.size", record.bytes_out);
        push_member(out, "request_id", record.request_id);
        push_member(out, "trace_id", record.trace_id);
        push_member(out, "outcome", record.end.name().as_bytes());
        push_member(out, "denied", record.denied);
        if record.weight > 1 {
            push_member_number(out, "sampled", record.weight);
        }
        out.push(b'}');
    }

    fn push_text(&mut self, out: &mut Vec<u8>, record: &Record<'_>, ended_us: i64) {
        self.push_time(out, ended_us);
        out.push(b' ');
        out.extend_from_slice(record.client.to_string().as_bytes());
        out.extend_from_slice(b" \"");
        push_escaped(out, if record.method.is_empty() { b"-" } else { record.method });
        out.push(b' ');
        push_escaped(out, if record.path.is_empty() { b"-" } else { record.path });
        out.extend_from_slice(b"\" ");
        match record.status {
            0 => out.push(b'-'),
            status => push_number(out, status.into()),
        }
        out.push(b' ');
        push_milliseconds(out, record.duration_ns);
        out.extend_from_slice(b"ms ");
        push_number(out, record.bytes_out);
        out.extend_from_slice(b"B ");
        out.extend_from_slice(record.end.name().as_bytes());
        for (name, text) in
            [("denied", record.denied), ("request_id", record.request_id), ("trace_id", record.trace_id)]
        {
            if !text.is_empty() {
                out.push(b' ');
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                push_escaped(out, text);
            }
        }
        if record.weight > 1 {
            out.extend_from_slice(b" sampled=");
            push_number(out, record.weight);
        }
    }

    /// `2026-11-22T10:15:00.123456Z`
    fn push_time(&mut self, out: &mut Vec<u8>, time_us: i64) {
        let second = time_us.div_euclid(SECOND_US);
        if second != self.second {
            self.set_second(second);
        }
        out.extend_from_slice(self.second_text.as_bytes());
        out.push(b'.');
        push_digits(out, time_us.rem_euclid(SECOND_US) as u64, 6);
        out.push(b'Z');
    }

    fn set_second(&mut self, second: i64) {
        self.second = second;
        let text = jiff::Timestamp::from_second(second).unwrap_or_default().to_string();
        self.second_text = text.trim_end_matches('Z').to_owned();
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A text that is not known is empty and left out.
fn push_member(out: &mut Vec<u8>, name: &str, text: &[u8]) {
    if !text.is_empty() {
        push_name(out, name);
        push_json(out, text);
    }
}

/// A number that is not known is 0 and left out.
fn push_member_number(out: &mut Vec<u8>, name: &str, number: u64) {
    if number > 0 {
        push_size(out, name, number);
    }
}

fn push_size(out: &mut Vec<u8>, name: &str, number: u64) {
    push_name(out, name);
    push_number(out, number);
}

/// Nobody over a Unix socket has an address.
fn push_client(out: &mut Vec<u8>, client: SocketAddr) {
    if !client.ip().is_unspecified() {
        push_member(out, "client.address", client.ip().to_canonical().to_string().as_bytes());
        push_member_number(out, "client.port", client.port().into());
    }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_milliseconds(out: &mut Vec<u8>, ns: u64) {
    push_number(out, ns / 1_000_000);
    out.push(b'.');
    push_digits(out, ns / 1000 % 1000, 3);
}

/// The last `count` digits of a number.
fn push_digits(out: &mut Vec<u8>, number: u64, count: u32) {
    out.extend((0..count).rev().map(|place| b'0' + (number / 10_u64.pow(place) % 10) as u8));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::record::End;
    use super::super::record::tests::record;
    use super::*;
    use crate::status::CloseReason;

    const TIME_US: i64 = 1_795_342_500_123_456;

    fn line(is_json: bool, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        LineWriter::new(is_json).push(&mut out, record, TIME_US);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_names_of_opentelemetry_and_numbers_are_numbers() {
        let expected = json!({
            "timestamp": "2026-11-22T10:15:00.123456Z", "http.request.method": "GET", "url.path": "/users/7",
            "http.route": "/users/{id}", "http.response.status_code": 200, "duration_ms": 1.234,
            "client.address": "192.0.2.1", "client.port": 4711, "http.request.size": 78, "http.response.size": 90,
            "request_id": "0123456789abcdef0123456789abcdef", "outcome": "answered",
        });
        assert_eq!(serde_json::from_str::<Value>(&line(true, &record())).unwrap(), expected);
        let denied = Record {
            method: b"BREW",
            status: 429,
            weight: 7,
            end: End::Denied,
            denied: b"rate-limited",
            trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
            client: "[::ffff:192.0.2.1]:0".parse().unwrap(),
            ..record()
        };
        let mut expected = expected;
        for (name, value) in [
            ("http.request.method", json!("_OTHER")),
            ("http.request.method_original", json!("BREW")),
            ("http.response.status_code", json!(429)),
            ("sampled", json!(7)),
            ("outcome", json!("denied")),
            ("denied", json!("rate-limited")),
            ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ] {
            expected[name] = value;
        }
        expected.as_object_mut().unwrap().remove("client.port");
        assert_eq!(serde_json::from_str::<Value>(&line(true, &denied)).unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let unread = Record {
            method: b"",
            path: b"",
            route: b"unmatched",
            request_id: b"",
            status: 0,
            end: End::Closed(CloseReason::HeaderTimeout),
            client: "0.0.0.0:0".parse().unwrap(),
            ..record()
        };
        let expected = json!({
            "timestamp": "2026-11-22T10:15:00.123456Z", "http.route": "unmatched", "duration_ms": 1.234,
            "http.request.size": 78, "http.response.size": 90, "outcome": "header-timeout",
        });
        assert_eq!(serde_json::from_str::<Value>(&line(true, &unread)).unwrap(), expected);
        let text = "2026-11-22T10:15:00.123456Z 0.0.0.0:0 \"- -\" - 1.234ms 90B header-timeout\n";
        assert_eq!(line(false, &unread), text);
    }

    #[test]
    fn people_read_the_same_as_text() {
        let text = "2026-11-22T10:15:00.123456Z 192.0.2.1:4711 \"GET /users/7\" 200 1.234ms 90B answered \
                    request_id=0123456789abcdef0123456789abcdef sampled=2\n";
        assert_eq!(line(false, &Record { weight: 2, ..record() }), text);
        let hostile = Record { path: b"/\r\n\x1b[2J\"\xff", ..record() };
        assert!(line(false, &hostile).contains(r#""GET /\r\n\u001b[2J\"\ufffd" 200"#), "{}", line(false, &hostile));
    }

    #[test]
    fn whatever_is_in_a_record_its_line_is_one() {
        let hostile: Vec<u8> = (0..=u8::MAX).collect();
        for is_json in [true, false] {
            let record = Record {
                method: &hostile,
                route: &hostile,
                path: &hostile,
                request_id: &hostile,
                trace_id: &hostile,
                denied: &hostile,
                ..record()
            };
            let line = line(is_json, &record);
            let body = line.strip_suffix('\n').unwrap();
            assert!(body.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        }
    }

    #[test]
    fn a_gap_says_how_many_are_missing() {
        let mut out = Vec::new();
        LineWriter::new(true).push_gap(&mut out, 12, TIME_US);
        assert_eq!(out, b"{\"timestamp\":\"2026-11-22T10:15:00.123456Z\",\"dropped\":12}\n");
    }

    #[test]
    fn the_second_of_a_line_is_its_own() {
        let mut writer = LineWriter::new(true);
        for (time_us, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (TIME_US + 900_000, "2026-11-22T10:15:01.023456Z"),
            (TIME_US, "2026-11-22T10:15:00.123456Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ] {
            let mut out = Vec::new();
            writer.push_time(&mut out, time_us);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
