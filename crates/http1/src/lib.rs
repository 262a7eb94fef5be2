//! The HTTP/1.1 engine of baiwan: bytes in, events out.
//!
//! The server's role:
//!
//! ```text
//!   bytes ──► HeadDecoder ──► RequestHead ──► (the application)
//!                │                 │ framing        │
//!                │            BodyDecoder ──► data, trailers
//!                ▼                 ▼                │
//!             Refusal           Refusal             ▼
//!                │                 │        encode_response_head ──► ResponsePlan
//!                ▼                 ▼                │
//!           encode_short_answer, close      BodyEncoder: data, or chunks
//! ```
//!
//! And the client's, with the same bodies:
//!
//! ```text
//!   encode_request_head, then data, or encode_chunk_head … encode_last_chunk
//!
//!   bytes ──► ResponseDecoder ──► ResponseHead ──► (interim: the next head)
//!                   │                  │ framing
//!                   │             BodyDecoder ──► data, trailers
//!                   ▼                  ▼  ▲
//!            ResponseRefusal      Refusal └── end_of_stream: the server has said all
//! ```
//!
//! It does no I/O, reads no clock, and knows no connection: deadlines, buffers and closing are the caller's. It is
//! strict: where RFC 9112 lets a recipient choose between repair and refusal, it refuses. Invariant: the same bytes give
//! the same events however they are split, and nothing is allocated in proportion to what the peer merely announces.
//!
//! Errors are named by blame: a [`Refusal`] or [`ResponseRefusal`] is the peer's doing, a [`ResponseError`] the
//! application's, a [`RequestError`] the one's who asks.
//!
//! # Examples
//!
//! A server:
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
//! let context = ResponseContext { head_request: false, version: Version::HTTP_11, keep_alive: head.keep_alive, may_switch: false };
//! let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
//! let length = BodyLength::Exact(data.len() as u64);
//! let plan = encode_response_head(&mut out, StatusCode::OK, &HeaderMap::new(), length, context, date, None)?;
//! assert_eq!(plan.framing, ResponseFraming::Length(5));
//! out.extend_from_slice(&data);
//! assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n") && out.ends_with(b"content-length: 5\r\n\r\nhello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A client:
//!
//! ```
//! use baiwan_http1::*;
//! use http::{HeaderMap, Method, StatusCode};
//!
//! let mut out = Vec::new();
//! encode_request_head(&mut out, &Method::GET, "/greet?to=all", "a.example:8080", &HeaderMap::new(), None)?;
//! assert_eq!(out, b"GET /greet?to=all HTTP/1.1\r\nhost: a.example:8080\r\n\r\n");
//!
//! let limits = Limits::default();
//! let input = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\n all!\r\n0\r\n\r\n";
//! let mut heads = ResponseDecoder::default();
//! assert!(heads.decode(&input[..20], false, &limits)?.is_none());
//! let (head, mut position) = heads.decode(input, false, &limits)?.expect("the head is complete");
//! assert_eq!((head.status, head.framing), (StatusCode::OK, ResponseFraming::Chunked));
//! assert_eq!(head.field("transfer-encoding"), Some(&b"chunked"[..]));
//!
//! let mut body = BodyDecoder::for_response(head.framing);
//! let mut data = Vec::new();
//! while !body.is_complete() {
//!     let piece = &input[position..];
//!     let step = body.decode(piece, &limits)?;
//!     position += step.consumed;
//!     if let BodyEvent::Data(range) = step.event {
//!         data.extend_from_slice(&piece[range]);
//!     }
//! }
//! assert_eq!(data, b"hello all!");
//! assert!(position == input.len() && head.keep_alive, "the connection is free for the next request");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod body;
mod body_encoder;
mod chunk;
mod common_value;
mod field_line;
mod field_name;
mod framing;
mod head;
mod host;
mod limits;
mod octet;
mod parse;
mod refusal;
mod request;
mod request_head;
mod response;
mod response_check;
mod response_head;
mod response_refusal;
mod response_rules;
mod rules;
mod short_answer;
mod target;
mod trailers;
mod word;

/// The page of this crate, whose program is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use body::{BodyDecoder, BodyEvent, BodyStep};
pub use body_encoder::{BodyEncoder, BodyLengthError, CHUNK_END, LAST_CHUNK, encode_chunk_head, encode_last_chunk};
pub use head::{HeadDecoder, begins_request, is_head_request};
pub use limits::{FIELDS_CEILING, HEAD_BYTES_CEILING, Limits};
pub use refusal::Refusal;
pub use request::{RequestError, encode_request_head};
pub use request_head::{BodyFraming, RequestHead};
pub use response::{CONTINUE, encode_response_head};
pub use response_check::{
    BodyLength, ResponseCheck, ResponseContext, ResponseError, ResponseFraming, ResponsePlan, check_response,
};
pub use response_head::{ResponseDecoder, ResponseHead};
pub use response_refusal::ResponseRefusal;
pub use short_answer::{
    MEMORY_PRESSURE, ShortAnswer, ShortAnswerTemplate, ShortField, TOO_MANY_CONNECTIONS,
    TOO_MANY_CONNECTIONS_PER_CLIENT, encode_short_answer, encode_with_fields, error_text, short_response,
};
