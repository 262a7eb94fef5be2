//! One kind of request, and the check of its answer. Pure: bytes in, a verdict out.
//!
//! The expected bodies are written down here and not shared with the servers' app, so that a wrong answer is noticed.

use memchr::memmem;

/// A head longer than this is no answer of the app.
const HEAD_BYTES_MAX: usize = 4096;
const ECHO_BYTES: usize = 1024;

/// A request, ready to send, and what must come back.
pub(crate) struct Exchange {
    request: Vec<u8>,
    expected: Expected,
}

enum Expected {
    /// Exactly this body, with its length announced.
    Body(Vec<u8>),
    /// A chunked body of which exactly this first chunk arrives.
    FirstChunk(Vec<u8>),
    /// Any number, as the whole body.
    Number,
    /// Exactly the end of a head of a 101, with this line.
    Switch(&'static [u8]),
    /// Exactly these bytes, which are not HTTP.
    Bytes(&'static [u8]),
}

/// What the bytes received so far amount to.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    Partial,
    Whole,
    Wrong(String),
}

impl Exchange {
    pub(crate) fn hello() -> Self {
        Self { request: get("/"), expected: Expected::Body(b"hello".to_vec()) }
    }

    pub(crate) fn json() -> Self {
        let body = br#"{"message":"hello","number":42}"#;
        Self { request: get("/json"), expected: Expected::Body(body.to_vec()) }
    }

    /// So many bytes of one letter.
    pub(crate) fn bytes(length: usize) -> Self {
        Self { request: get(&format!("/bytes/{length}")), expected: Expected::Body(vec![b'x'; length]) }
    }

    /// Each one makes the server compute for 1 ms.
    pub(crate) fn work() -> Self {
        Self { request: get("/work"), expected: Expected::Body(b"hello".to_vec()) }
    }

    /// A head whose body is `length` bytes that are sent apart, and what must come back.
    pub(crate) fn upload(path: &str, length: u64, answer: &str) -> Self {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { request: request.into_bytes(), expected: Expected::Body(answer.as_bytes().to_vec()) }
    }

    /// Every hundredth one makes the server compute for 10 ms.
    pub(crate) fn mixed() -> Self {
        Self { request: get("/mixed"), expected: Expected::Body(b"hello".to_vec()) }
    }

    pub(crate) fn sleep() -> Self {
        Self { request: get("/sleep"), expected: Expected::Body(b"slept".to_vec()) }
    }

    pub(crate) fn echo() -> Self {
        let body: Vec<u8> = (b'a'..=b'z').cycle().take(ECHO_BYTES).collect();
        let mut exchange = Self::upload("/echo", ECHO_BYTES as u64, "");
        exchange.request.extend_from_slice(&body);
        Self { expected: Expected::Body(body), ..exchange }
    }

    pub(crate) fn stream() -> Self {
        Self { request: get("/sse"), expected: Expected::FirstChunk(b"data: hello\n\n".to_vec()) }
    }

    /// Never answered.
    pub(crate) fn pending() -> Self {
        Self { request: get("/pending"), expected: Expected::Body(Vec::new()) }
    }

    /// How many handlers are pending.
    pub(crate) fn held() -> Self {
        Self { request: get("/held"), expected: Expected::Number }
    }

    /// The handshake of RFC 6455, section 1.3.
    pub(crate) fn switch(path: &str) -> Self {
        let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut request = get(path);
        request.truncate(request.len() - 2);
        request.extend_from_slice(fields.as_bytes());
        Self { request, expected: Expected::Switch(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") }
    }

    /// A text frame, masked with zeros, and its echo.
    pub(crate) fn message() -> Self {
        Self { request: b"\x81\x85\0\0\0\0hello".to_vec(), expected: Expected::Bytes(b"\x81\x05hello") }
    }

    pub(crate) fn request(&self) -> &[u8] {
        &self.request
    }

    /// The same request, as the last one on its connection.
    pub(crate) fn closing(mut self) -> Self {
        let line = b"HTTP/1.1\r\n";
        let end = memmem::find(&self.request, line).map_or(0, |begin| begin + line.len());
        self.request.splice(end..end, *b"Connection: close\r\n");
        self
    }

    /// The body that must come back, if all of it is known.
    pub(crate) fn body(&self) -> Option<&[u8]> {
        match &self.expected {
            Expected::Body(body) => Some(body),
            _ => None,
        }
    }

    /// What may follow a whole answer although nobody has asked: some servers send the end of a chunk with the next one.
    pub(crate) fn trailing(&self) -> &'static [u8] {
        match self.expected {
            Expected::FirstChunk(_) => b"\r\n",
            _ => b"",
        }
    }

    /// Judges all bytes that came since the request was sent.
    pub(crate) fn progress(&self, received: &[u8]) -> Progress {
        if let Expected::Bytes(expected) = self.expected {
            return match expected.strip_prefix(received) {
                Some([]) => Progress::Whole,
                Some(_) => Progress::Partial,
                None => wrong("other bytes", received),
            };
        }
        let Some(end) = memmem::find(received, b"\r\n\r\n") else {
            return match received.len() {
                0..=HEAD_BYTES_MAX => Progress::Partial,
                _ => wrong("an endless head", received),
            };
        };
        let (head, body) = (&received[..end], &received[end + 4..]);
        let status: &[u8] = if let Expected::Switch(_) = self.expected { b"HTTP/1.1 101 " } else { b"HTTP/1.1 200 " };
        if !head.starts_with(status) {
            return wrong("another status", head);
        }
        match &self.expected {
            Expected::Bytes(_) => unreachable!("has no head"),
            Expected::Switch(accept) => match header(head, "sec-websocket-accept") {
                Some(found) if found == *accept && body.is_empty() => Progress::Whole,
                _ => wrong("no switch", received),
            },
            Expected::Body(expected) => whole_body(head, body, expected),
            Expected::FirstChunk(expected) => first_chunk(head, body, expected),
            Expected::Number => match content_length(head) {
                Some(length) if body.len() < length => Progress::Partial,
                Some(length) if body.len() == length && number(received).is_some() => Progress::Whole,
                _ => wrong("no number", received),
            },
        }
    }
}

/// The number that is the body of a whole answer.
pub(crate) fn number(received: &[u8]) -> Option<u64> {
    let end = memmem::find(received, b"\r\n\r\n")?;
    str::from_utf8(&received[end + 4..]).ok()?.parse().ok()
}

/// The length of the answer that `received` begins with, once its head is there; it announces the length of its body.
pub(crate) fn answer_bytes(received: &[u8]) -> Option<usize> {
    let end = memmem::find(received, b"\r\n\r\n")?;
    Some(end + 4 + content_length(&received[..end])?)
}

/// Whether the server takes no request after this answer.
pub(crate) fn says_close(answer: &[u8]) -> bool {
    let end = memmem::find(answer, b"\r\n\r\n").unwrap_or(answer.len());
    header(&answer[..end], "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes()
}

fn whole_body(head: &[u8], body: &[u8], expected: &[u8]) -> Progress {
    if content_length(head) != Some(expected.len()) {
        return wrong("a body of another length", head);
    }
    if body == expected {
        Progress::Whole
    } else if expected.starts_with(body) {
        Progress::Partial
    } else {
        wrong("another body", body)
    }
}

fn first_chunk(head: &[u8], body: &[u8], expected: &[u8]) -> Progress {
    if header(head, "transfer-encoding").is_none_or(|value| !value.eq_ignore_ascii_case(b"chunked")) {
        return wrong("a stream that is not chunked", head);
    }
    let mut chunk = format!("{:X}\r\n", expected.len()).into_bytes();
    chunk.extend_from_slice(expected);
    let without_end = chunk.len();
    chunk.extend_from_slice(b"\r\n");
    // The size may be written with small digits and leading zeros.
    let zeros = body.iter().take_while(|byte| **byte == b'0').count();
    let body = &body[zeros..];
    if body.len() >= without_end && body.len() <= chunk.len() && body.eq_ignore_ascii_case(&chunk[..body.len()]) {
        Progress::Whole
    } else if body.len() < without_end && body.eq_ignore_ascii_case(&chunk[..body.len()]) {
        Progress::Partial
    } else {
        wrong("another event", body)
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    str::from_utf8(header(head, "content-length")?).ok()?.parse().ok()
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (found, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

fn wrong(what: &str, bytes: &[u8]) -> Progress {
    let shown = &bytes[..bytes.len().min(120)];
    Progress::Wrong(format!("{what}: \"{}\"", shown.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello";

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_wrong_after_it() {
        let exchange = Exchange::hello();
        for end in 0..HELLO.len() {
            assert_eq!(exchange.progress(&HELLO[..end]), Progress::Partial, "{end}");
        }
        assert_eq!(exchange.progress(HELLO), Progress::Whole);
        assert!(matches!(exchange.progress(&[HELLO, b"H"].concat()), Progress::Wrong(_)));
    }

    #[test]
    fn another_status_length_or_body_is_wrong() {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello!",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\njello",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            assert!(matches!(Exchange::hello().progress(answer.as_bytes()), Progress::Wrong(_)), "{answer}");
        }
    }

    #[test]
    fn a_stream_is_answered_by_its_first_event() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let progress = |body: &str| Exchange::stream().progress(format!("{head}{body}").as_bytes());
        assert_eq!(progress(""), Progress::Partial);
        assert_eq!(progress("d\r\ndata: "), Progress::Partial);
        assert_eq!(progress("D\r\ndata: hello\n"), Progress::Partial);
        assert_eq!(progress("D\r\ndata: hello\n\n"), Progress::Whole);
        assert_eq!(progress("D\r\ndata: hello\n\n\r\n"), Progress::Whole);
        assert_eq!(progress("00d\r\ndata: hello\n\n\r\n"), Progress::Whole);
        assert!(matches!(progress("0\r\n\r\n"), Progress::Wrong(_)));
        assert!(matches!(progress("d\r\ndata: other\n\n\r\n"), Progress::Wrong(_)));
    }

    #[test]
    fn a_closing_request_says_so_in_its_head() {
        let request = Exchange::hello().closing().request().to_vec();
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("GET / HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n"), "{text}");
    }

    #[test]
    fn a_switch_and_a_message_are_exact() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(Exchange::switch("/ws").request().ends_with(b"==\r\n\r\n"));
        assert_eq!(Exchange::switch("/ws").progress(answer), Progress::Whole);
        assert_eq!(Exchange::switch("/ws").progress(&answer[..answer.len() - 1]), Progress::Partial);
        assert!(matches!(Exchange::switch("/ws").progress(&answer.to_ascii_uppercase()), Progress::Wrong(_)));
        assert_eq!(Exchange::message().progress(b"\x81\x05hel"), Progress::Partial);
        assert_eq!(Exchange::message().progress(b"\x81\x05hello"), Progress::Whole);
        assert!(matches!(Exchange::message().progress(b"\x81\x05hello!"), Progress::Wrong(_)));
    }

    #[test]
    fn a_number_is_read_from_a_whole_body() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n150";
        assert_eq!(Exchange::held().progress(answer), Progress::Whole);
        assert_eq!(Exchange::held().progress(&answer[..answer.len() - 1]), Progress::Partial);
        assert_eq!(number(answer), Some(150));
    }
}
