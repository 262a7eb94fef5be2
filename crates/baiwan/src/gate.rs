//! The gate: which connections are taken, and which requests are let through.
//!
//! Both event loops ask here, and nowhere else is it decided. A decision is made of counts and of what the loop says; it is
//! *not* acted on here: how a refusal is sent, and how a connection ends, is the loop's.
//!
//! The invariant: what is counted in here is counted out once, as what it was counted in.

use std::borrow::Cow;
use std::time::Duration;

use baiwan_http1::{TOO_MANY_CONNECTIONS, encode_with_fields};
use http::{StatusCode, Uri};

use crate::cors::{Origin, RefusalCors};
use crate::own_answer::OwnAnswer;
use crate::status::{CloseReason, Phase, Status};

/// How long a connection beyond the maximum may take to ask for the server's health.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why something is not let through, and what its peer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    /// The name of the rule, as in the answer.
    pub(crate) text: &'static str,
    /// The whole answer, made before anybody came; to HEAD its head alone is sent. Empty for one whose connection stays.
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

    /// A request has waited too long on an overloaded core.
    pub(crate) const OVERLOADED: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        text: "temporary-reduced-capacity",
        answer: b"",
        stays: true,
        reason: CloseReason::OverLimit,
    };

    /// The answer that was made in advance, for a peer whose head is not read. Where pages of other sites may read it, it is copied.
    pub(crate) fn answer_unread(&self, cors: &RefusalCors) -> Cow<'static, [u8]> {
        if cors.is_off() {
            return Cow::Borrowed(self.answer);
        }
        let mut answer = Vec::new();
        encode_with_fields(&mut answer, self.answer, cors.fields(Origin::Unread).as_slice());
        Cow::Owned(answer)
    }

    /// What it is in words.
    pub(crate) fn own_answer(&self) -> OwnAnswer<'static> {
        OwnAnswer { status: self.status, text: self.text }
    }
}

/// What becomes of a connection that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// It is counted as one of the server's.
    Taken,
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

/// Decides what becomes of a connection that a core has accepted, and counts it in.
pub(crate) fn admit_connection(status: &Status, core: usize, beyond: Beyond) -> Entry {
    if status.phase() == Phase::Stopping {
        return Entry::Dropped(CloseReason::DrainTimeout);
    }
    if status.try_open(core) {
        return Entry::Taken;
    }
    match () {
        () if beyond.count >= beyond.max => Entry::Dropped(CloseReason::OverLimit),
        () if status.try_probe() => Entry::Probe,
        () => Entry::Refused(Denial::TOO_MANY_CONNECTIONS),
    }
}

/// Counts out what was counted in.
pub(crate) fn leave(status: &Status, core: usize, entry: Entry) {
    match entry {
        Entry::Taken => status.closed(core),
        Entry::Probe => status.end_probe(),
        Entry::Refused(_) | Entry::Dropped(_) => {}
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// Its connection entered as [`Entry::Probe`].
    pub(crate) is_probe: bool,
    /// It has waited too long on an overloaded core.
    pub(crate) is_late: bool,
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
    let Asker { is_probe, is_late, is_stopping } = asker;
    match () {
        () if is_probe && !asks_for_health(target) => Verdict::Refused(Denial::TOO_MANY_CONNECTIONS),
        () if is_late && !asks_for_health(target) => Verdict::Refused(Denial::OVERLOADED),
        () => Verdict::Pass { last: is_probe || is_stopping },
    }
}

/// Whether a request is one that is answered beyond the maximum of connections, and on an overloaded core: an orchestrator restarts a server whose
/// health it cannot ask for, and that would cut everybody.
fn asks_for_health(target: &Uri) -> bool {
    target.path().starts_with("/health/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::PROBES_MAX;

    const FREE: Beyond = Beyond { count: 0, max: 64 };

    #[test]
    fn connections_are_taken_up_to_the_maximum_then_read_for_a_moment_then_told_so_then_dropped() {
        let status = Status::new(1, 2, 2);
        let admit = |beyond| admit_connection(&status, 0, beyond);
        assert_eq!([admit(FREE), admit(FREE)], [Entry::Taken; 2]);
        assert_eq!(admit(Beyond { count: 64, max: 64 }), Entry::Dropped(CloseReason::OverLimit), "no more can be told");
        assert!((0..PROBES_MAX).all(|_| admit(Beyond { count: 63, max: 64 }) == Entry::Probe));
        assert_eq!(admit(FREE), Entry::Refused(Denial::TOO_MANY_CONNECTIONS));
        status.end_probe();
        assert_eq!(admit(FREE), Entry::Probe);
        status.closed(0);
        assert_eq!(admit(FREE), Entry::Taken);
    }

    #[test]
    fn a_server_that_stops_takes_what_it_has_accepted_until_it_cuts_everything() {
        let status = Status::new(1, 2, 2);
        status.advance(Phase::Draining);
        assert_eq!(admit_connection(&status, 0, FREE), Entry::Taken);
        status.advance(Phase::Stopping);
        assert_eq!(admit_connection(&status, 0, FREE), Entry::Dropped(CloseReason::DrainTimeout));
        status.closed(0);
    }

    #[test]
    fn a_probe_may_ask_once_for_health_and_for_nothing_else() {
        let ask = |is_probe, is_stopping, target: &'static str| {
            admit_request(Asker { is_probe, is_late: false, is_stopping }, &Uri::from_static(target))
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

    #[test]
    fn a_request_that_has_waited_too_long_is_refused_unless_it_asks_for_health() {
        let ask = |target: &'static str| {
            admit_request(Asker { is_probe: false, is_late: true, is_stopping: false }, &Uri::from_static(target))
        };
        assert_eq!(ask("/health/live"), Verdict::Pass { last: false });
        for target in ["/", "/health", "/healthy/"] {
            assert_eq!(ask(target), Verdict::Refused(Denial::OVERLOADED), "{target}");
        }
    }
}
