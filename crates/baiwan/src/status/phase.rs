//! How far a server is on its way from start to stop: a word for it, and no more; who goes on to the next, and when, is the
//! server's business.
//!
//! The invariant: phases are in the order in which they may follow each other.

/// How far a server is on its way from start to stop; see [`Health::phase`](crate::Health::phase). It never goes back, and may leave phases out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// Not every core runs.
    Starting,
    /// Accepts connections and answers requests.
    Serving,
    /// Still serving, but asks not to be sent more: the shutdown delay.
    NotReady,
    /// Accepts no more, and ends each connection as soon as it can be done in order.
    Draining,
    /// Ends every connection now.
    Stopping,
}

#[cfg(feature = "admin")]
impl Phase {
    /// As the dashboard says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::NotReady => "not ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}
