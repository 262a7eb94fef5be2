//! What became of one request.

use std::time::Duration;

/// The answer to one [`Limiter::check`](crate::Limiter::check).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on. It has been counted if so.
    pub allowed: bool,
    /// How many requests of cost 1 would be allowed now.
    pub remaining: u32,
    /// In which time the whole burst is there again, if nothing else comes.
    pub reset: Duration,
    /// In which time a request of the same cost would be allowed; zero if this one was. A cost above the burst is never allowed: this
    /// is the quota's window then.
    pub retry_after: Duration,
}
