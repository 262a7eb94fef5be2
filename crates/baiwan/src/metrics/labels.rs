//! What the series of requests are told apart by: a method, a route and a status, each from a closed set.
//!
//! Clients may send any method, and apps may answer with any status: what is in no set has one name, so that nobody can make series
//! without end.

use std::hash::Hasher;

use http::{Method, StatusCode};

use crate::observe::Exchange;
use crate::route_table::RouteNumber;

/// The methods that have a name of their own; every other, and where no head was read, is the last.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "_OTHER"];
/// Statuses from here on are one (RFC 9110, section 15, knows none of them).
const STATUS_END: u16 = 600;
/// Nothing was answered.
const NONE: u16 = 0;

/// The labels of a series of requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Labels {
    pub(super) route: RouteNumber,
    method: u8,
    status: u16,
}

impl Labels {
    #[inline]
    pub(super) fn of(exchange: &Exchange<'_>) -> Self {
        let status = exchange.status.map_or(NONE, |status| status.as_u16().min(STATUS_END));
        Self { route: exchange.route_number, method: method(exchange.method), status }
    }

    /// The same of another route.
    pub(super) fn of_route(self, route: RouteNumber) -> Self {
        Self { route, ..self }
    }

    /// As a number, by which the series is found.
    #[inline]
    pub(super) fn key(self) -> u32 {
        const _: () = assert!(METHODS.len() <= 16 && STATUS_END < 1024);
        const _: () = assert!(crate::route_table::ROUTES_MAX < (1 << 16));
        (self.route.index() as u32) << 14 | u32::from(self.status) << 4 | u32::from(self.method)
    }

    pub(super) fn method(self) -> &'static str {
        METHODS[usize::from(self.method)]
    }

    /// As a label: `none` where nothing was answered, `other` for what is no status of HTTP.
    pub(super) fn status(self) -> StatusLabel {
        StatusLabel(self.status)
    }
}

/// A status as a label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct StatusLabel(u16);

impl StatusLabel {
    /// The status, if one was answered.
    pub(super) fn code(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.0).ok()
    }

    /// `class` of a status is its first digit; 0 where nothing was answered.
    pub(super) fn number(self) -> u16 {
        self.0
    }

    pub(super) fn write(self, text: &mut impl std::fmt::Write) -> std::fmt::Result {
        match self.0 {
            NONE => text.write_str("none"),
            STATUS_END.. => text.write_str("other"),
            status => write!(text, "{status}"),
        }
    }
}

#[inline]
fn method(method: Option<&Method>) -> u8 {
    let Some(method) = method else { return 9 };
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => 9,
    }
}

/// Of numbers that nobody can choose to collide: there are few, and what they are is the app's.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.write_u32(u32::from(number));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing: Knuth, The Art of Computer Programming, volume 3, section 6.4.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_status_has_a_name_of_a_closed_set() {
        for (number, name) in METHODS.into_iter().enumerate() {
            let known = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(usize::from(method(Some(&known))), number);
        }
        assert_eq!((method(None), method(Some(&Method::from_bytes(b"get").unwrap()))), (9, 9));
        let shown = |status| {
            let mut text = String::new();
            StatusLabel(status).write(&mut text).unwrap();
            text
        };
        assert_eq!([0, 204, 599, 600].map(shown), ["none", "204", "599", "other"]);
    }
}
