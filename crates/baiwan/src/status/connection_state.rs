//! What connections wait for, as an operator tells them apart.

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum ConnectionState {
    /// The next request.
    Idle,
    /// The rest of a request's head, or of a body that nobody reads.
    Receiving,
    /// Its handler, or the body that this asks for.
    Handling,
    /// Room to send.
    Sending,
    /// What the app makes of it: it has switched protocols.
    Upgraded,
    /// The end of the peer's stream.
    Closing,
}

impl ConnectionState {
    pub(crate) const ALL: [Self; 6] =
        [Self::Idle, Self::Receiving, Self::Handling, Self::Sending, Self::Upgraded, Self::Closing];

    /// The name in metrics.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only metrics name them"))]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Receiving => "receiving",
            Self::Handling => "handling",
            Self::Sending => "sending",
            Self::Upgraded => "upgraded",
            Self::Closing => "closing",
        }
    }
}
