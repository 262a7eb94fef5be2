//! Why connections end: one table for the names, the numbers and the list. When a connection ends is not decided here.
//!
//! The invariant: a reason has one number and one name, and both stay what they are while the process runs.

macro_rules! close_reasons {
    ($($(#[$doc:meta])+ $variant:ident $name:literal)+) => {
        /// Why a connection ended. Every connection ends with exactly one.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[$doc])+ $variant,)+
        }

        impl CloseReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in logs and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

close_reasons! {
    /// The peer ended the stream between two requests, or while it was not answered yet.
    PeerClosed "peer-closed"
    /// The peer reset the connection, or it failed in the network.
    Reset "reset"
    /// One side had asked for it with `Connection: close` (or HTTP/1.0 implied it), and the answer was sent; or the app ended
    /// a connection that it had taken to another protocol.
    Complete "complete"
    /// The connection had reached its maximum age, and ended in order: an answer said so, it was idle, or the app ended one that it had
    /// taken to another protocol. One that ends because of its number of requests is `complete`.
    Age "age"
    /// The connection had reached its maximum age, and an exchange or another protocol went on 30 seconds later.
    AgeTimeout "age-timeout"
    /// No request came within the keep-alive timeout.
    KeepAliveTimeout "keep-alive-timeout"
    /// A request's head was not complete within the header timeout; answered 408.
    HeaderTimeout "header-timeout"
    /// The handler had no response head within the request timeout; answered 503.
    RequestTimeout "request-timeout"
    /// The request's body was not complete within the body timeout; answered 408.
    BodyTimeout "body-timeout"
    /// The request's body came below the minimum rate, or not at all; answered 408.
    BodyTooSlow "body-too-slow"
    /// The peer stopped receiving the answer.
    WriteTimeout "write-timeout"
    /// The peer received the answer below the minimum rate.
    WriteTooSlow "write-too-slow"
    /// The peer broke a rule of HTTP; answered with a status of 400 or above.
    Refused "refused"
    /// The answer was sent while more of the request's body was on its way than is worth receiving.
    BodyUnread "body-unread"
    /// The handler panicked or its body failed.
    HandlerFailed "handler-failed"
    /// The server was at its maximum of connections; answered 503.
    OverLimit "over-limit"
    /// The client had its maximum of connections, or of new ones a second; answered 429, or reset.
    ClientOverLimit "client-over-limit"
    /// The server's memory was short: the connection was idle, or its request was answered 503.
    MemoryPressure "memory-pressure"
    /// The server stopped, and the connection was idle.
    Drained "drained"
    /// The server stopped, and the time for an orderly stop was over.
    DrainTimeout "drain-timeout"
    /// The system refused something that the connection needs.
    System "system"
    /// The loop of its core panicked.
    CoreFailed "core-failed"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reasons_are_named_apart() {
        let names = HashSet::from(CloseReason::ALL.map(CloseReason::name));
        assert_eq!(names.len(), CloseReason::ALL.len());
    }
}
