//! A case: the bytes of a request, and what must become of them, however they are cut.
//!
//! Behind each stands a good request, `GET /smuggled`. After a refusal it must not be answered, nor reach the app; after a
//! request that was answered it must be the next one, and neither be taken out of a body nor swallowed by one.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::wire::{Answer, Fence, Way, exchange, read_answers};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
/// Places at which each case is cut in two, at most.
const CUTS_MAX: usize = 8;
/// Longer cases are not sent byte by byte.
const BYTE_BY_BYTE_MAX: usize = 2048;
const THREADS: usize = 4;

/// What must become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its head is refused: one answer of ours, which says that the connection closes, and the app sees nothing.
    HeadRefused,
    /// Its body is refused in the same way; the app may have seen its head.
    BodyRefused,
    /// It is answered, and the connection goes on.
    Answered,
    /// It is answered, and then the connection ends, which the answer says.
    AnsweredLast,
}

pub(crate) struct Case {
    name: String,
    input: Vec<u8>,
    fate: Fate,
    statuses: Vec<u16>,
    body: Option<Vec<u8>>,
    check: Option<fn(&Answer)>,
}

impl Case {
    /// The body that the answer must have.
    pub(crate) fn with_body(&mut self, body: impl AsRef<[u8]>) -> &mut Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// What else must be true of the answer.
    pub(crate) fn with_check(&mut self, check: fn(&Answer)) -> &mut Self {
        self.check = Some(check);
        self
    }

    fn is_head(&self) -> bool {
        self.input.trim_ascii_start().starts_with(b"HEAD ")
    }

    fn is_http_1_0(&self) -> bool {
        let line = self.input.trim_ascii_start().split(|&byte| byte == b'\r').next().unwrap();
        line.ends_with(b" HTTP/1.0")
    }

    /// All at once, byte by byte, and cut at places around everything that is not a letter.
    fn ways(&self) -> Vec<Way> {
        let mut places = BTreeSet::new();
        for (index, byte) in self.input.iter().enumerate() {
            if !byte.is_ascii_alphanumeric() {
                places.extend([index, index + 1]);
            }
        }
        places.remove(&0);
        let step = places.len().div_ceil(CUTS_MAX).max(1);
        // The last place, before the request behind it, is always one.
        let cuts = places.into_iter().rev().step_by(step).map(Way::Cut);
        let mut ways: Vec<_> = [Way::Whole].into_iter().chain(cuts).collect();
        if self.input.len() <= BYTE_BY_BYTE_MAX {
            ways.push(Way::ByteByByte);
        }
        ways
    }

    fn run(&self, way: Way, fence: &mut Fence) -> Result<(), String> {
        let bytes = [&self.input, NEXT.as_bytes()].concat();
        let (received, seen) = exchange(&bytes, way, fence);
        let method = if self.is_head() { "HEAD" } else { "GET" };
        let said = || received.escape_ascii().to_string();
        let answers = read_answers(&received, &[method, "GET"]).map_err(|wrong| format!("{wrong}, in {}", said()))?;
        let [answer, rest @ ..] = &answers[..] else { return Err("no answer".to_owned()) };
        if !self.statuses.contains(&answer.status) {
            return Err(format!("not {:?} but {}", self.statuses, said()));
        }
        self.check_fate(answer, rest, &seen).map_err(|wrong| format!("{wrong}: {}, app saw {seen:?}", said()))?;
        self.check_fields(answer).map_err(|wrong| format!("{wrong}: {}", said()))?;
        if self.body.as_ref().is_some_and(|body| *body != answer.body) {
            return Err(format!("the wrong body: {}", said()));
        }
        if let Some(check) = self.check {
            check(answer);
        }
        Ok(())
    }

    fn check_fate(&self, answer: &Answer, rest: &[Answer], seen: &[String]) -> Result<(), &'static str> {
        let followed = seen.iter().any(|line| line.contains("/smuggled"));
        if self.fate == Fate::Answered {
            let next_is_right = matches!(rest, [next] if next.status == 200 && next.body == b"smuggled");
            return match seen {
                _ if !next_is_right => Err("the next request is not answered"),
                _ if answer.says_close() => Err("it says that it closes, and goes on"),
                [_, next] if next == "GET /smuggled" => Ok(()),
                _ => Err("the app has not seen two requests"),
            };
        }
        if !rest.is_empty() || followed {
            return Err("what follows was taken for a request");
        }
        if !answer.says_close() {
            return Err("it closes and does not say so");
        }
        let seen_max = if self.fate == Fate::HeadRefused { 0 } else { 1 };
        if seen.len() > seen_max { Err("the app has seen it") } else { Ok(()) }
    }

    /// What holds for every answer.
    fn check_fields(&self, answer: &Answer) -> Result<(), &'static str> {
        let date = answer.field("date").ok_or("no Date")?;
        if !is_date(date) {
            return Err("a Date that is no IMF-fixdate");
        }
        if answer.status == 204 && (answer.field("content-length").or(answer.field("transfer-encoding"))).is_some() {
            return Err("204 with framing");
        }
        if self.is_http_1_0() && answer.field("transfer-encoding").is_some() {
            return Err("a transfer coding for HTTP/1.0");
        }
        if self.is_http_1_0() && !answer.interim.is_empty() {
            return Err("an interim answer for HTTP/1.0");
        }
        if answer.status == 405 && answer.field("allow").is_none() {
            return Err("405 without Allow");
        }
        let sized = answer.field("content-length").or(answer.field("transfer-encoding")).is_some();
        match self.fate {
            Fate::HeadRefused | Fate::BodyRefused if !sized => Err("a refusal without a length"),
            Fate::Answered if answer.until_close => Err("a body without an end"),
            _ => Ok(()),
        }
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7).
pub(crate) fn is_date(text: &str) -> bool {
    let pattern = b"Aaa, 00 Aaa 0000 00:00:00 GMT";
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, &expected)| match expected {
            b'A' if byte.is_ascii_uppercase() => true,
            b'a' => byte.is_ascii_lowercase(),
            b'0' => byte.is_ascii_digit(),
            _ => byte == expected,
        })
}

/// Cases that belong together.
#[derive(Default)]
pub(crate) struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, fate: Fate, statuses: &[u16], input: &[u8]) -> &mut Case {
        let shown = input.escape_ascii().to_string();
        let name = shown.chars().take(120).collect();
        let statuses = statuses.to_vec();
        self.0.push(Case { name, input: input.to_vec(), fate, statuses, body: None, check: None });
        self.0.last_mut().unwrap()
    }

    /// The head must be refused with this status.
    pub(crate) fn refused(&mut self, status: u16, input: impl AsRef<[u8]>) {
        self.add(Fate::HeadRefused, &[status], input.as_ref());
    }

    /// A field line after the request line and Host must be refused with this status.
    pub(crate) fn refused_field(&mut self, status: u16, line: impl AsRef<[u8]>) {
        self.refused(status, [b"POST /echo HTTP/1.1\r\nHost: probe\r\n", line.as_ref(), b"\r\n\r\n"].concat());
    }

    /// The request line must be refused with this status.
    pub(crate) fn refused_line(&mut self, status: u16, line: impl AsRef<[u8]>) {
        self.refused(status, [line.as_ref(), b"\r\nHost: probe\r\n\r\n"].concat());
    }

    /// The chunked body must be refused with this status.
    pub(crate) fn refused_chunks(&mut self, status: u16, body: impl AsRef<[u8]>) {
        self.add(Fate::BodyRefused, &[status], &chunked("/echo", body));
    }

    /// It must be answered with one of these, and the connection go on.
    pub(crate) fn answered(&mut self, statuses: &[u16], input: impl AsRef<[u8]>) -> &mut Case {
        self.add(Fate::Answered, statuses, input.as_ref())
    }

    /// It must be answered with one of these, and the connection end.
    pub(crate) fn answered_last(&mut self, statuses: &[u16], input: impl AsRef<[u8]>) -> &mut Case {
        self.add(Fate::AnsweredLast, statuses, input.as_ref())
    }

    /// Runs them all, in every way, and fails with a list of those that fail.
    pub(crate) fn run(self) {
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        let names: BTreeSet<_> = self.0.iter().map(|case| &case.input).collect();
        assert_eq!(names.len(), self.0.len(), "a case is there twice");
        std::thread::scope(|scope| {
            for _ in 0..THREADS.min(self.0.len()) {
                scope.spawn(|| {
                    let mut fence = Fence::new();
                    while let Some(case) = self.0.get(next.fetch_add(1, Relaxed)) {
                        for way in case.ways() {
                            if let Err(wrong) = case.run(way, &mut fence) {
                                failures.lock().unwrap().push(format!("{} ({way:?}): {wrong}", case.name));
                                break;
                            }
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap();
        assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), self.0.len(), failures.join("\n"));
    }
}

/// A GET with these field lines, each with its end.
pub(crate) fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: probe\r\n{lines}\r\n")
}

/// A POST with these field lines, each with its end, and what follows them.
pub(crate) fn post(path: &str, lines: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: probe\r\n{lines}\r\n{body}")
}

/// A POST with a chunked body.
pub(crate) fn chunked(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [post(path, "Transfer-Encoding: chunked\r\n", "").as_bytes(), body.as_ref()].concat()
}
