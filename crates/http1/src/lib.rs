//! The HTTP/1.1 engine of baiwan: bytes in, events out.
//!
//! ```text
//!   bytes ──► HeadDecoder ──► RequestHead ──► (the application)
//!                │                 │ framing        │
//!                │            BodyDecoder ──► data, trailers
//!                ▼                 ▼                │
//!             Refusal           Refusal             ▼
//!                │                 │        encode_response_head ──► ResponsePlan
//!                ▼                 ▼                │
//!           encode_error_response, close    data, or encode_chunk_head … encode_last_chunk
//! ```
//!
//! It does no I/O, reads no clock, and knows no connection: deadlines, buffers and closing are the caller's. It is
//! strict: where RFC 9112 lets a server choose between repair and refusal, it refuses. Invariant: the same bytes give
//! the same events however they are split, and nothing is allocated in proportion to what the peer merely announces.
//!
//! Errors are named by blame: a [`Refusal`] is the peer's doing, a [`ResponseError`] the application's.
//!
//! # Example
//!
//! ```
//! use baiwan_http1::*;
//! use http::{HeaderMap, StatusCode, Version};
//!
//! let limits = Limits::default();
//! let input = b"POST /greet HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
//!
//! let mut heads = HeadDecoder::default();
//! assert!(heads.decode(&input[..20], &limits)?.is_none());
//! let (head, mut position) = heads.decode(input, &limits)?.expect("the head is complete");
//! assert_eq!(head.request.uri(), "/greet");
//! assert_eq!(head.framing, BodyFraming::Chunked);
//!
//! let mut body = BodyDecoder::new(head.framing);
//! let mut data = Vec::new();
//! loop {
//!     let piece = &input[position..];
//!     let step = body.decode(piece, &limits)?;
//!     position += step.consumed;
//!     match step.event {
//!         BodyEvent::Data(range) => data.extend_from_slice(&piece[range]),
//!         BodyEvent::Complete(_trailers) => break,
//!         BodyEvent::More => unreachable!("the body is complete"),
//!     }
//! }
//! assert_eq!(data, b"hello");
//!
//! let mut out = Vec::new();
//! let context = ResponseContext { head_request: false, version: Version::HTTP_11, keep_alive: head.keep_alive };
//! let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
//! let length = BodyLength::Exact(data.len() as u64);
//! let plan = encode_response_head(&mut out, StatusCode::OK, &HeaderMap::new(), length, context, date)?;
//! assert_eq!(plan.framing, ResponseFraming::Length(5));
//! out.extend_from_slice(&data);
//! assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n") && out.ends_with(b"content-length: 5\r\n\r\nhello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod body;
mod chunk;
mod head;
mod host;
mod limits;
mod octet;
mod parse;
mod refusal;
mod response;
mod rules;
mod target;
mod trailers;

pub use body::{BodyDecoder, BodyEvent, BodyStep};
pub use head::{BodyFraming, HeadDecoder, RequestHead, is_head_request};
pub use limits::{FIELDS_CEILING, HEAD_BYTES_CEILING, Limits};
pub use refusal::Refusal;
pub use response::{
    BodyLength, CHUNK_END, CONTINUE, LAST_CHUNK, ResponseContext, ResponseError, ResponseFraming, ResponsePlan,
    TOO_MANY_CONNECTIONS, encode_chunk_head, encode_error_response, encode_error_response_head, encode_last_chunk,
    encode_response_head,
};
