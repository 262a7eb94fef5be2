//! Encoding the body of an answer: chunk framing, the announced length, trailers.
//!
//! The data itself stays the caller's, who may copy it behind its frame or send it from where it is. It is *not* a queue: what
//! stands before and after a piece of data is written here, in the order of the calls.
//!
//! The order of calls: [`BodyEncoder::encode_data_head`], the data, what that call returned; as often as there is data; then
//! [`BodyEncoder::encode_end`]. Who has another frame the data asks [`handle_data`](BodyEncoder::handle_data) and
//! [`handle_end`](BodyEncoder::handle_end) instead.
//!
//! Invariant: what is written has the length that its head announced, or is an error before the first byte beyond it.

use http::HeaderMap;

use crate::ResponseFraming;
use crate::response::encode_field;
use crate::trailers;

/// Follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A body on its way to bytes: its framing, and what that still demands.
#[derive(Debug)]
pub struct BodyEncoder {
    kind: Kind,
    /// Bytes that the announced length still demands; 0 where none is announced.
    left: u64,
    complete: bool,
}

/// How the body ends, without how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    NoBody,
    Length,
    Chunked,
    UntilClose,
}

/// The body does not have the length that its head announced. The connection can only be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the response does not have the length that its head announced")]
pub struct BodyLengthError;

impl BodyEncoder {
    /// Of a body whose head announced `framing`.
    #[inline]
    pub fn new(framing: ResponseFraming) -> Self {
        let (kind, left, complete) = match framing {
            ResponseFraming::NoBody => (Kind::NoBody, 0, true),
            ResponseFraming::Length(length) => (Kind::Length, length, length == 0),
            ResponseFraming::Chunked => (Kind::Chunked, 0, false),
            ResponseFraming::UntilClose => (Kind::UntilClose, 0, false),
        };
        Self { kind, left, complete }
    }

    /// Whether nothing of the body is left to write. An announced length ends it without a call.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether data is framed: if not, it is sent as it is.
    #[inline]
    pub fn is_chunked(&self) -> bool {
        self.kind == Kind::Chunked
    }

    /// Takes note of `bytes` of data.
    ///
    /// # Errors
    ///
    /// They are more than the head announced. Nothing of them may be sent.
    #[inline]
    pub fn handle_data(&mut self, bytes: u64) -> Result<(), BodyLengthError> {
        match self.kind {
            Kind::Length => {
                self.left = self.left.checked_sub(bytes).ok_or(BodyLengthError)?;
                self.complete = self.left == 0;
            }
            Kind::NoBody if bytes > 0 => return Err(BodyLengthError),
            Kind::NoBody | Kind::Chunked | Kind::UntilClose => {}
        }
        Ok(())
    }

    /// Takes note of the end of the data.
    ///
    /// # Errors
    ///
    /// The data is less than the head announced.
    #[inline]
    pub fn handle_end(&mut self) -> Result<(), BodyLengthError> {
        if self.left > 0 {
            return Err(BodyLengthError);
        }
        self.complete = true;
        Ok(())
    }

    /// Appends what stands before `bytes` of data, and returns what must follow them. For no data, both are nothing.
    ///
    /// # Errors
    ///
    /// The data is more than the head announced. Then nothing was appended.
    #[inline]
    pub fn encode_data_head(&mut self, out: &mut Vec<u8>, bytes: u64) -> Result<&'static [u8], BodyLengthError> {
        self.handle_data(bytes)?;
        if !self.is_chunked() || bytes == 0 {
            return Ok(b"");
        }
        encode_chunk_head(out, bytes);
        Ok(CHUNK_END)
    }

    /// Appends the end of the body: where chunks frame it, the last one and the trailers that may be sent. Other framings
    /// cannot carry trailers.
    ///
    /// # Errors
    ///
    /// The data is less than the head announced.
    #[inline]
    pub fn encode_end(&mut self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>) -> Result<(), BodyLengthError> {
        self.handle_end()?;
        if self.is_chunked() {
            encode_last_chunk(out, trailers);
        }
        Ok(())
    }
}

/// Appends the size line of a chunk. That number of bytes of data and [`CHUNK_END`] must follow.
///
/// # Panics
///
/// When `bytes` is 0: that would end the body.
pub fn encode_chunk_head(out: &mut Vec<u8>, bytes: u64) {
    assert_ne!(bytes, 0, "a chunk without data ends the body");
    let digits = 16 - bytes.leading_zeros() / 4;
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(bytes >> (4 * digit) & 0xf) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body. Trailer fields that must not be sent as such are left out (RFC 9110 6.5.1).
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !trailers::is_forbidden(name) {
            encode_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// A body in pieces and its trailers, as they leave; or where it fails.
    fn encode(
        framing: ResponseFraming,
        pieces: &[&str],
        trailers: Option<&HeaderMap>,
    ) -> Result<String, BodyLengthError> {
        let mut encoder = BodyEncoder::new(framing);
        let mut out = Vec::new();
        for piece in pieces {
            let end = encoder.encode_data_head(&mut out, piece.len() as u64)?;
            out.extend_from_slice(piece.as_bytes());
            out.extend_from_slice(end);
        }
        encoder.encode_end(&mut out, trailers)?;
        assert!(encoder.is_complete());
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn chunks_frame_each_piece_and_the_end() {
        let hello = encode(ResponseFraming::Chunked, &["hello", "", " all of you, all"], None);
        assert_eq!(hello.as_deref(), Ok("5\r\nhello\r\n10\r\n all of you, all\r\n0\r\n\r\n"));
        assert_eq!(encode(ResponseFraming::Chunked, &[], None).as_deref().map(str::as_bytes), Ok(LAST_CHUNK));
    }

    #[test]
    fn a_length_and_the_end_of_the_connection_need_no_frame() {
        assert_eq!(encode(ResponseFraming::Length(5), &["he", "", "llo"], None).as_deref(), Ok("hello"));
        assert_eq!(encode(ResponseFraming::Length(0), &[], None).as_deref(), Ok(""));
        assert_eq!(encode(ResponseFraming::UntilClose, &["he", "llo"], None).as_deref(), Ok("hello"));
        assert_eq!(encode(ResponseFraming::NoBody, &[""], None).as_deref(), Ok(""));
    }

    #[test]
    fn a_body_has_the_length_that_was_announced_or_fails() {
        for pieces in [&["hello", "!"][..], &["hello!"], &["hell"], &[]] {
            assert_eq!(encode(ResponseFraming::Length(5), pieces, None), Err(BodyLengthError), "{pieces:?}");
        }
        assert_eq!(encode(ResponseFraming::NoBody, &["x"], None), Err(BodyLengthError));
        let mut encoder = BodyEncoder::new(ResponseFraming::Length(5));
        let mut out = Vec::new();
        assert_eq!(encoder.encode_data_head(&mut out, u64::MAX), Err(BodyLengthError));
        assert_eq!((out.len(), encoder.is_complete()), (0, false));
    }

    #[test]
    fn an_announced_length_is_complete_with_its_last_byte_and_anything_else_with_its_end() {
        let mut length = BodyEncoder::new(ResponseFraming::Length(5));
        for (bytes, complete) in [(4, false), (0, false), (1, true), (0, true)] {
            length.handle_data(bytes).expect("within the length");
            assert_eq!(length.is_complete(), complete);
        }
        for framing in [ResponseFraming::Chunked, ResponseFraming::UntilClose] {
            let mut encoder = BodyEncoder::new(framing);
            encoder.handle_data(5).expect("no length is announced");
            assert!(!encoder.is_complete());
            encoder.handle_end().expect("no length is announced");
            assert!(encoder.is_complete());
        }
        assert!(BodyEncoder::new(ResponseFraming::NoBody).is_complete());
        assert!(BodyEncoder::new(ResponseFraming::Length(0)).is_complete());
    }

    #[test]
    fn trailers_go_with_chunks_alone_and_without_those_that_frame() {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "1"), ("content-length", "5"), ("x-sum", "2")] {
            trailers.append(name, HeaderValue::from_static(value));
        }
        let chunked = encode(ResponseFraming::Chunked, &["a"], Some(&trailers));
        assert_eq!(chunked.as_deref(), Ok("1\r\na\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n"));
        assert_eq!(encode(ResponseFraming::Length(1), &["a"], Some(&trailers)).as_deref(), Ok("a"));
        assert_eq!(encode(ResponseFraming::UntilClose, &["a"], Some(&trailers)).as_deref(), Ok("a"));
    }
}
