//! Who hears what the rate limits of layers decide: the server that runs the app, if it wants to count that among its own.
//!
//! It is *not* a way into the decision. The invariant: the listener is called on the thread, and within the poll, that judges the request.

use std::sync::OnceLock;

/// What a rate limit has counted a request as.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CountedAs {
    /// It goes on.
    Allowed,
    /// It goes on because the limit only reports.
    Reported,
    /// It is answered instead.
    Refused,
}

static LISTENER: OnceLock<fn(CountedAs)> = OnceLock::new();

/// Has `listener` called for each request that a layer of this process counts from now on. The first of a process stays.
#[doc(hidden)]
pub fn listen_to_rate_limits(listener: fn(CountedAs)) {
    LISTENER.get_or_init(|| listener);
}

pub(crate) fn tell(counted: CountedAs) {
    if let Some(listener) = LISTENER.get() {
        listener(counted);
    }
}
