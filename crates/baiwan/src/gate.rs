//! The gate: which connections are taken, and which requests are let through.
//!
//! Both event loops ask here, and nowhere else is it decided. A decision is made of counts and of what the loop says; it is
//! *not* acted on here: how a refusal is sent, and how a connection ends, is the loop's.
//!
//! The invariant: what is counted in here is counted out once, as what it was counted in.

use std::time::Duration;

use baiwan_driver::Peer;
use baiwan_http1::{TOO_MANY_CONNECTIONS, TOO_MANY_CONNECTIONS_PER_CLIENT};
use baiwan_limits::ClientKey;
use http::{StatusCode, Uri};
use tokio::time::Instant;

use crate::per_client::TooMany;
use crate::status::{CloseReason, Phase, Status};

/// How long a connection beyond the maximum may take to ask for the server's health.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why something is not let through, and what its peer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    /// The name of the rule, as in the answer.
    pub(crate) text: &'static str,
    /// The whole answer, made before anybody came; to HEAD its head alone is sent.
    pub(crate) answer: &'static [u8],
    /// The connection may ask again. Otherwise it ends after the answer, for `reason`.
    pub(crate) stays: bool,
    pub(crate) reason: CloseReason,
}

impl Denial {
    pub(crate) const TOO_MANY_CONNECTIONS: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        text: "too-many-connections",
        answer: TOO_MANY_CONNECTIONS,
        stays: false,
        reason: CloseReason::OverLimit,
    };
    pub(crate) const TOO_MANY_CONNECTIONS_PER_CLIENT: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        text: "too-many-connections-per-client",
        answer: TOO_MANY_CONNECTIONS_PER_CLIENT,
        stays: false,
        reason: CloseReason::ClientOverLimit,
    };
}

/// What becomes of a connection that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// It is counted as one of the server's, and as one of this client's, if its client is limited.
    Taken(Option<ClientKey>),
    /// It is beyond the maximum, but is read for [`PROBE_TIMEOUT`], and may ask for the server's health.
    Probe,
    /// It is told so, and ends.
    Refused(Denial),
    /// It ends without a word.
    Dropped(CloseReason),
}

/// Connections of a core that were not taken and are not closed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beyond {
    pub(crate) count: usize,
    /// At most this many may be told why at the same time.
    pub(crate) max: usize,
}

/// Decides what becomes of a connection that a core has accepted from `peer` at the time `now`, and counts it in.
pub(crate) fn admit_connection(status: &Status, core: usize, beyond: Beyond, peer: Peer, now: Instant) -> Entry {
    if status.phase() == Phase::Stopping {
        return Entry::Dropped(CloseReason::DrainTimeout);
    }
    let client = match status.bounds.clients.as_ref().map(|clients| clients.try_open(peer, now)) {
        Some(Err(TooMany)) if beyond.count >= beyond.max => return Entry::Dropped(CloseReason::ClientOverLimit),
        Some(Err(TooMany)) => return Entry::Refused(Denial::TOO_MANY_CONNECTIONS_PER_CLIENT),
        Some(Ok(client)) => client,
        None => None,
    };
    if status.try_open(core) {
        return Entry::Taken(client);
    }
    leave_client(status, client);
    match () {
        () if beyond.count >= beyond.max => Entry::Dropped(CloseReason::OverLimit),
        () if status.try_probe() => Entry::Probe,
        () => Entry::Refused(Denial::TOO_MANY_CONNECTIONS),
    }
}

/// Counts out what was counted in.
pub(crate) fn leave(status: &Status, core: usize, entry: Entry) {
    match entry {
        Entry::Taken(client) => {
            status.closed(core);
            leave_client(status, client);
        }
        Entry::Probe => status.end_probe(),
        Entry::Refused(_) | Entry::Dropped(_) => {}
    }
}

/// Counts a connection out that was one of its client's.
fn leave_client(status: &Status, client: Option<ClientKey>) {
    if let (Some(clients), Some(client)) = (&status.bounds.clients, client) {
        clients.close(client);
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// Its connection entered as [`Entry::Probe`].
    pub(crate) is_probe: bool,
    /// The server stops, as far as the asker's core knows.
    pub(crate) is_stopping: bool,
}

/// What becomes of a request whose head broke no rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The app answers. `last` says that nothing follows on its connection.
    Pass { last: bool },
    /// The app does not hear of it.
    Refused(Denial),
}

/// Decides what becomes of a request.
#[inline]
pub(crate) fn admit_request(asker: Asker, target: &Uri) -> Verdict {
    match asker.is_probe {
        true if !asks_for_health(target) => Verdict::Refused(Denial::TOO_MANY_CONNECTIONS),
        is_probe => Verdict::Pass { last: is_probe || asker.is_stopping },
    }
}

/// Whether a request is one that is answered beyond the maximum of connections: an orchestrator restarts a server whose
/// health it cannot ask for, and that would cut everybody.
fn asks_for_health(target: &Uri) -> bool {
    target.path().starts_with("/health/")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::files::PROBES_MAX;
    use crate::settings::Settings;

    const FREE: Beyond = Beyond { count: 0, max: 64 };

    #[test]
    fn connections_are_taken_up_to_the_maximum_then_read_for_a_moment_then_told_so_then_dropped() {
        let status = Status::new(1, 2, 2);
        let admit = |beyond| admit_connection(&status, 0, beyond, Peer::Unix, Instant::now());
        assert_eq!([admit(FREE), admit(FREE)], [Entry::Taken(None); 2]);
        assert_eq!(admit(Beyond { count: 64, max: 64 }), Entry::Dropped(CloseReason::OverLimit), "no more can be told");
        assert!((0..PROBES_MAX).all(|_| admit(Beyond { count: 63, max: 64 }) == Entry::Probe));
        assert_eq!(admit(FREE), Entry::Refused(Denial::TOO_MANY_CONNECTIONS));
        status.end_probe();
        assert_eq!(admit(FREE), Entry::Probe);
        status.closed(0);
        assert_eq!(admit(FREE), Entry::Taken(None));
    }

    #[test]
    fn a_client_beyond_its_maximum_is_told_so_then_dropped_and_takes_no_place_of_others() {
        let settings = Settings { max_connections_per_ip: NonZeroU32::new(1), ..Settings::default() };
        let status = Status::with(settings.bounds(), 1, 1, 1);
        let admit = |address: &str, beyond| {
            admit_connection(&status, 0, beyond, Peer::Ip(address.parse().unwrap()), Instant::now())
        };
        let first = admit("192.0.2.1:1", FREE);
        assert!(matches!(first, Entry::Taken(Some(_))));
        assert_eq!(admit("192.0.2.1:2", FREE), Entry::Refused(Denial::TOO_MANY_CONNECTIONS_PER_CLIENT));
        let none_free = Beyond { count: 64, max: 64 };
        assert_eq!(admit("192.0.2.1:3", none_free), Entry::Dropped(CloseReason::ClientOverLimit));
        // The server is full: what the gate did not take counts for no client.
        assert_eq!(admit("192.0.2.2:1", none_free), Entry::Dropped(CloseReason::OverLimit));
        leave(&status, 0, first);
        let second = admit("192.0.2.2:1", FREE);
        assert!(matches!(second, Entry::Taken(Some(_))));
        leave(&status, 0, second);
        assert!(matches!(admit("192.0.2.1:4", FREE), Entry::Taken(Some(_))));
    }

    #[test]
    fn a_server_that_stops_takes_what_it_has_accepted_until_it_cuts_everything() {
        let status = Status::new(1, 2, 2);
        status.advance(Phase::Draining);
        let admit = || admit_connection(&status, 0, FREE, Peer::Unix, Instant::now());
        assert_eq!(admit(), Entry::Taken(None));
        status.advance(Phase::Stopping);
        assert_eq!(admit(), Entry::Dropped(CloseReason::DrainTimeout));
        status.closed(0);
    }

    #[test]
    fn a_probe_may_ask_once_for_health_and_for_nothing_else() {
        let ask = |is_probe, is_stopping, target: &'static str| {
            admit_request(Asker { is_probe, is_stopping }, &Uri::from_static(target))
        };
        for target in ["/health/live", "/health/ready?full", "/health/"] {
            assert_eq!(ask(true, false, target), Verdict::Pass { last: true }, "{target}");
        }
        for target in ["/", "/health", "/healthy/", "/a/health/", "*"] {
            assert_eq!(ask(true, true, target), Verdict::Refused(Denial::TOO_MANY_CONNECTIONS), "{target}");
            assert_eq!(ask(false, false, target), Verdict::Pass { last: false }, "{target}");
        }
        assert_eq!(ask(false, true, "/"), Verdict::Pass { last: true }, "the server stops");
    }
}
