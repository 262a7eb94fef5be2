//! Limits of one route in the place of the server's. How they reach whoever judges them: `limited_route`.
//!
//! The invariant: the innermost layer that sets a time or a rate decides it, and of limits of bytes the smallest holds.

use std::time::Duration;

/// Time and bytes that requests of a route may take, in the place of what the [`Builder`](crate::Builder) says: a layer for a route, a
/// `Router`, or any other service.
///
/// What is not set here stays as it is for the whole server. What is late or too large ends as the server's own limits end it: the same
/// status and text, the same [`CloseReason`](crate::CloseReason), the same record for an observer.
///
/// - Where one such layer is inside of another, the innermost layer that sets a time or a rate decides it. Of limits of bytes the smallest holds.
/// - [`Builder::body_limit`](crate::Builder::body_limit) is judged before it is known which route a request is for, so no route is above it.
/// - Times count from the moment at which the request reaches the layer. Until then, behind a middleware that waits, the server's times hold.
/// - The layer must be called in the task in which the server calls the app. It has no effect in a task that the app spawns, or on another
///   server.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use axum::{Router, routing::{get, post}};
/// use baiwan::RouteLimits;
///
/// // Waits for news for up to two minutes.
/// let poll = get(|| async { "news" }).layer(RouteLimits::new().request_timeout(Some(Duration::from_secs(130))));
/// // A sensor sends a few bytes an hour, in one request that does not end; never more than 64 KiB.
/// let sensor = RouteLimits::new().body_min_rate(0).body_timeout(None).body_limit(64 * 1024);
/// let readings = post(|body: String| async move { body.len().to_string() }).layer(sensor);
///
/// let app = Router::new().route("/poll", poll).route("/readings", readings);
/// let server = baiwan::Server::builder().bind("127.0.0.1:0").request_timeout(Some(Duration::from_secs(10)));
/// # let running = server.start(app)?;
/// # drop(running);
/// # Ok::<(), baiwan::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct RouteLimits {
    /// None is the server's; within that, None is no timeout.
    pub(crate) request_timeout: Option<Option<Duration>>,
    pub(crate) body_timeout: Option<Option<Duration>>,
    /// Bytes a second; 0 is any.
    pub(crate) body_rate_min: Option<u32>,
    pub(crate) body_bytes_max: Option<u64>,
}

impl RouteLimits {
    pub(crate) const NONE: Self =
        Self { request_timeout: None, body_timeout: None, body_rate_min: None, body_bytes_max: None };

    /// Limits that are the server's.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a handler may take until its response head, instead of [`Builder::request_timeout`](crate::Builder::request_timeout);
    /// `None` is as long as it likes. Then 503 with `Retry-After`.
    pub fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// How long a request's body may take in all, instead of [`Builder::body_timeout`](crate::Builder::body_timeout); `None` is as long
    /// as it likes. Then 408.
    pub fn body_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.body_timeout = Some(timeout);
        self
    }

    /// How many bytes a second a request's body must bring on average while a handler waits for it, instead of
    /// [`Builder::body_min_rate`](crate::Builder::body_min_rate); 0 is any. Then 408.
    pub fn body_min_rate(mut self, bytes_per_second: u32) -> Self {
        self.body_rate_min = Some(bytes_per_second);
        self
    }

    /// How many bytes a request's body may have, streams included. Then 413: before the handler is called and before another byte is
    /// read, if the `Content-Length` or what is there already says so; for a chunked body when it announces a chunk beyond the limit (with
    /// [`EventLoop::Portable`](crate::EventLoop::Portable), when such bytes have come).
    ///
    /// axum's extractors collect 2 MiB by default, whatever is allowed here: see
    /// [`Builder::buffered_body_limit`](crate::Builder::buffered_body_limit).
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// Adds what a layer further inside says.
    pub(crate) fn add(&mut self, inner: &Self) {
        self.request_timeout = inner.request_timeout.or(self.request_timeout);
        self.body_timeout = inner.body_timeout.or(self.body_timeout);
        self.body_rate_min = inner.body_rate_min.or(self.body_rate_min);
        self.body_bytes_max = [self.body_bytes_max, inner.body_bytes_max].into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_time_and_the_smallest_number_of_bytes_hold() {
        let second = Some(Duration::from_secs(1));
        let mut limits = RouteLimits::new().request_timeout(second).body_timeout(second).body_limit(10);
        limits.add(&RouteLimits::new().request_timeout(None).body_limit(20));
        assert_eq!((limits.request_timeout, limits.body_timeout), (Some(None), Some(second)));
        assert_eq!((limits.body_rate_min, limits.body_bytes_max), (None, Some(10)));
    }
}
