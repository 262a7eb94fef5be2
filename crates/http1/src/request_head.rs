//! What a request head says, once it was found to follow every rule.

use http::Request;

/// A request head that follows every rule.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version (HTTP/1.0 or 1.1) and fields.
    pub request: Request<()>,
    /// Where the body ends.
    pub framing: BodyFraming,
    /// Whether the client lets the connection persist after the answer (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Whether the client may wait for [`CONTINUE`](crate::CONTINUE) before it sends the body. Never without a body,
    /// never in HTTP/1.0.
    pub expects_continue: bool,
    /// Whether the client offers another protocol than `h2c`, in HTTP/1.1 itself. Where there is a body too, it comes before
    /// the switch.
    pub upgrade: bool,
    /// Whether there is a field `X-Request-Id` or `traceparent`, so that nobody need look where there is none.
    pub is_named: bool,
}

/// How the end of a request body is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body. `Content-Length: 0` is this too.
    None,
    /// A number of bytes, at least one, at most 2^63 - 1.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
}
