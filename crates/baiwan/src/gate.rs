//! The gate: which connections are taken, and which requests are let through.
//!
//! Both event loops ask here, and nowhere else is it decided. A decision is made of counts and of what the loop says; it is
//! *not* acted on here: how a refusal is sent, and how a connection ends, is the loop's.
//!
//! The invariant: what is counted in here is counted out once, as what it was counted in.

use std::borrow::Cow;
use std::time::Duration;

use baiwan_driver::Peer;
use baiwan_http1::{MEMORY_PRESSURE, TOO_MANY_CONNECTIONS, TOO_MANY_CONNECTIONS_PER_CLIENT, encode_with_fields};
use baiwan_limits::{ClientKey, Decision, MemoryLevel, Moment};
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{Method, Request, StatusCode, Uri};

use crate::client::{UNKNOWN_CLIENT, client_key};
use crate::cors::{Origin, RefusalCors};
use crate::own_answer::OwnAnswer;
use crate::per_client::{PerClient, TooMany};
use crate::rate_limit::{Left, RATE_LIMITED, RateLimit, Ruling};
use crate::status::{CloseReason, CoreStatus, Phase, Status, add};

/// How long a connection beyond the maximum may take to ask for the server's health.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why something is not let through, and what its peer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    /// The name of the rule, as in the answer.
    pub(crate) text: &'static str,
    /// The whole answer to a peer whose head is not read, made before anybody came. Empty for one whose connection stays.
    pub(crate) answer: &'static [u8],
    /// The connection may ask again. Otherwise it ends after the answer, for `reason`.
    pub(crate) stays: bool,
    pub(crate) reason: CloseReason,
    /// What the rate limit says, if that is what does not let it through.
    pub(crate) over: Option<Decision>,
}

impl Denial {
    pub(crate) const TOO_MANY_CONNECTIONS: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        text: "too-many-connections",
        answer: TOO_MANY_CONNECTIONS,
        stays: false,
        reason: CloseReason::OverLimit,
        over: None,
    };

    /// The memory that is left is for what goes on already, and each connection that ends gives some back.
    pub(crate) const MEMORY_PRESSURE: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        text: "memory-pressure",
        answer: MEMORY_PRESSURE,
        stays: false,
        reason: CloseReason::MemoryPressure,
        over: None,
    };

    pub(crate) const TOO_MANY_CONNECTIONS_PER_CLIENT: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        text: "too-many-connections-per-client",
        answer: TOO_MANY_CONNECTIONS_PER_CLIENT,
        stays: false,
        reason: CloseReason::ClientOverLimit,
        over: None,
    };

    /// A request has waited too long on an overloaded core.
    pub(crate) const OVERLOADED: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        text: "temporary-reduced-capacity",
        answer: b"",
        stays: true,
        reason: CloseReason::OverLimit,
        over: None,
    };

    /// A client has sent more requests than its limit allows.
    fn rate_limited(decision: Decision) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            text: RATE_LIMITED,
            answer: &[],
            stays: true,
            reason: CloseReason::Complete,
            over: Some(decision),
        }
    }

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
        OwnAnswer { over: self.over, ..OwnAnswer::new(self.status, self.text) }
    }
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

/// Who has connected, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer<'a> {
    pub(crate) peer: Peer,
    pub(crate) now: tokio::time::Instant,
    /// What one client may have, if that is limited.
    pub(crate) limits: Option<&'a PerClient>,
}

/// Decides what becomes of a connection that a core has accepted, and counts it in.
pub(crate) fn admit_connection(status: &Status, core: usize, beyond: Beyond, newcomer: Newcomer<'_>) -> Entry {
    if status.phase() == Phase::Stopping {
        return Entry::Dropped(CloseReason::DrainTimeout);
    }
    let client = match count_client(status, beyond, newcomer) {
        Ok(client) => client,
        Err(entry) => return entry,
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

/// Decides what becomes of a connection that was taken as that of a proxy, once the proxy has said who has connected: from here
/// on it is that client's. What is not taken any more is counted out.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub(crate) fn admit_client(status: &Status, core: usize, beyond: Beyond, client: Newcomer<'_>) -> Entry {
    match count_client(status, beyond, client) {
        Ok(client) => Entry::Taken(client),
        Err(entry) => {
            leave(status, core, Entry::Taken(None));
            entry
        }
    }
}

/// Counts a connection in as one of its client's, if its client is limited.
///
/// # Errors
/// What becomes of it if its client has too many.
fn count_client(status: &Status, beyond: Beyond, newcomer: Newcomer<'_>) -> Result<Option<ClientKey>, Entry> {
    let Newcomer { peer, now, limits: Some(limits) } = newcomer else { return Ok(None) };
    limits.try_open(&status.bounds.clients, peer, now).map_err(|TooMany| match 2 * beyond.count >= beyond.max {
        // Half of the room is for others: one client must not keep an orchestrator from asking for the health of a full server.
        true => Entry::Dropped(CloseReason::ClientOverLimit),
        false => Entry::Refused(Denial::TOO_MANY_CONNECTIONS_PER_CLIENT),
    })
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
    if let Some(client) = client {
        status.bounds.clients.close(client);
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// Its connection entered as [`Entry::Probe`].
    pub(crate) is_probe: bool,
    /// It has waited too long on an overloaded core.
    pub(crate) is_late: bool,
    /// The server stops, as far as the asker's core knows.
    pub(crate) is_stopping: bool,
    /// What the server gives up because its memory is short.
    pub(crate) memory: MemoryLevel,
    /// Who counts its requests, if anybody does.
    pub(crate) counting: Option<Counting<'a>>,
}

/// What the rate limit needs to know of who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting<'a> {
    pub(crate) limit: &'a RateLimit,
    /// The peer, by its whole address; `0.0.0.0` over a Unix socket.
    pub(crate) peer: ClientKey,
    pub(crate) now: Moment,
    /// Where it is counted what is refused, or would be.
    pub(crate) core: &'a CoreStatus,
}

/// What becomes of a request whose head broke no rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The app answers. `last` says that nothing follows on its connection; `left`, that its client is about to reach its limit.
    Pass { last: bool, left: Option<Left> },
    /// The app does not hear of it. `last` says that nothing follows on its connection, whatever the denial says.
    Refused { denial: Denial, last: bool },
}

/// Decides what becomes of a request, and counts it.
#[inline]
pub(crate) fn admit_request<B>(asker: Asker<'_>, request: &Request<B>) -> Verdict {
    let Asker { is_probe, is_late, is_stopping, memory, counting } = asker;
    let last = is_probe || is_stopping || memory >= MemoryLevel::NoKeepAlive;
    let refused = |denial| Verdict::Refused { denial, last };
    if is_probe && !asks_for_health(request.uri()) {
        return refused(Denial::TOO_MANY_CONNECTIONS);
    }
    if memory >= MemoryLevel::Refusing && !asks_for_health(request.uri()) {
        return refused(Denial::MEMORY_PRESSURE);
    }
    // What was not served is not counted.
    if is_late && !asks_for_health(request.uri()) {
        return refused(Denial::OVERLOADED);
    }
    let left = match counting {
        Some(counting) => match count_request(counting, request) {
            Ok(left) => left,
            Err(denial) => return refused(denial),
        },
        None => None,
    };
    Verdict::Pass { last, left }
}

/// Counts a request of which nothing else is asked, unless requests of its kind do not count.
#[inline]
pub(crate) fn count_request<B>(counting: Counting<'_>, request: &Request<B>) -> Result<Option<Left>, Denial> {
    let Counting { limit, peer, now, core } = counting;
    match counts(request) {
        true => count(limit, peer, now, core, request),
        false => Ok(None),
    }
}

/// Counts a request against the limit of its client.
// Apart from its caller, so that requests that nobody counts do not pay for it; and with arguments that fit registers.
#[inline(never)]
fn count<B>(
    limit: &RateLimit,
    peer: ClientKey,
    now: Moment,
    core: &CoreStatus,
    request: &Request<B>,
) -> Result<Option<Left>, Denial> {
    let client = client_key(peer, request);
    if client == UNKNOWN_CLIENT {
        // Over a Unix socket, nobody knows who asks unless a trusted proxy says so.
        return Ok(None);
    }
    match limit.check(client, now) {
        Ruling::Allowed(left) => {
            add(&core.rate_limit_allowed, 1);
            Ok(left)
        }
        Ruling::Reported => {
            add(&core.rate_limit_reported, 1);
            Ok(None)
        }
        Ruling::Refused(decision) => {
            add(&core.rate_limited, 1);
            Err(Denial::rate_limited(decision))
        }
    }
}

/// Whether a request counts against its client's limit. One for the server's health does not, nor what a browser asks by itself before a
/// page may ask (a CORS preflight).
fn counts<B>(request: &Request<B>) -> bool {
    let is_preflight = *request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    !is_preflight && !asks_for_health(request.uri())
}

/// Whether a request is one that no limit concerns, for `/health` or a path below it: an orchestrator restarts a server whose health it
/// cannot ask for, and that would cut everybody.
fn asks_for_health(target: &Uri) -> bool {
    target.path().strip_prefix("/health").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::files::PROBES_MAX;
    use crate::settings::Settings;

    /// Somebody who connects while one client may have as much as it likes, unless `limits` say otherwise.
    fn newcomer(peer: Peer, limits: Option<&PerClient>) -> Newcomer<'_> {
        Newcomer { peer, now: tokio::time::Instant::now(), limits }
    }

    const FREE: Beyond = Beyond { count: 0, max: 64 };
    /// Somebody against whom nothing speaks.
    const ASKER: Asker<'static> =
        Asker { is_probe: false, is_late: false, is_stopping: false, memory: MemoryLevel::Enough, counting: None };

    #[test]
    fn connections_are_taken_up_to_the_maximum_then_read_for_a_moment_then_told_so_then_dropped() {
        let status = Status::new(1, 2, 2);
        let admit = |beyond| admit_connection(&status, 0, beyond, newcomer(Peer::Unix, None));
        assert_eq!([admit(FREE), admit(FREE)], [Entry::Taken(None); 2]);
        let none_free = Beyond { count: 64, max: 64 };
        assert_eq!(admit(none_free), Entry::Dropped(CloseReason::OverLimit), "no more can be told");
        assert!((0..PROBES_MAX).all(|_| admit(Beyond { count: 63, max: 64 }) == Entry::Probe));
        assert_eq!(admit(FREE), Entry::Refused(Denial::TOO_MANY_CONNECTIONS));
        status.end_probe();
        assert_eq!(admit(FREE), Entry::Probe);
        status.closed(0);
        assert_eq!(admit(FREE), Entry::Taken(None));
    }

    #[test]
    fn a_client_beyond_its_maximum_is_told_so_then_dropped_and_takes_no_place_of_others() {
        let settings = Settings { max_connections_per_ip: NonZeroU32::new(1), ..Settings::default() }.in_force();
        let status = Status::with(settings.bounds(), 1, 1, 1);
        let limits = settings.clients_in_force.as_deref();
        let admit = |address: &str, beyond| {
            admit_connection(&status, 0, beyond, newcomer(Peer::Ip(address.parse().unwrap()), limits))
        };
        let first = admit("192.0.2.1:1", FREE);
        assert!(matches!(first, Entry::Taken(Some(_))));
        assert_eq!(admit("192.0.2.1:2", FREE), Entry::Refused(Denial::TOO_MANY_CONNECTIONS_PER_CLIENT));
        let none_free = Beyond { count: 64, max: 64 };
        assert_eq!(admit("192.0.2.1:3", none_free), Entry::Dropped(CloseReason::ClientOverLimit));
        // The server is full: what the gate did not take counts for no client.
        assert_eq!(admit("192.0.2.2:1", none_free), Entry::Dropped(CloseReason::OverLimit));
        // One client fills no more than half of the room, and the rest is for whoever asks for the health.
        let half = Beyond { count: 32, max: 64 };
        assert_eq!(admit("192.0.2.1:3", half), Entry::Dropped(CloseReason::ClientOverLimit));
        assert_eq!(admit("192.0.2.2:1", half), Entry::Probe);
        leave(&status, 0, Entry::Probe);
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
        let admit = || admit_connection(&status, 0, FREE, newcomer(Peer::Unix, None));
        assert_eq!(admit(), Entry::Taken(None));
        status.advance(Phase::Stopping);
        assert_eq!(admit(), Entry::Dropped(CloseReason::DrainTimeout));
        status.closed(0);
    }

    #[test]
    fn a_probe_may_ask_once_for_health_and_for_nothing_else() {
        let ask = |is_probe, is_stopping, target: &'static str| {
            let asker = Asker { is_probe, is_stopping, ..ASKER };
            admit_request(asker, &Request::builder().uri(target).body(()).unwrap())
        };
        let pass = |last| Verdict::Pass { last, left: None };
        for target in ["/health", "/health?full", "/health/live", "/health/ready?full", "/health/"] {
            assert_eq!(ask(true, false, target), pass(true), "{target}");
        }
        for target in ["/", "/healthy", "/healthy/", "/a/health", "/a/health/", "*"] {
            let refused = Verdict::Refused { denial: Denial::TOO_MANY_CONNECTIONS, last: true };
            assert_eq!(ask(true, true, target), refused, "{target}");
            assert_eq!(ask(false, false, target), pass(false), "{target}");
        }
        assert_eq!(ask(false, true, "/"), pass(true), "the server stops");
    }
    #[test]
    fn health_and_preflights_are_never_counted_and_everything_else_is() {
        let status = Status::new(1, 2, 2);
        let limit = RateLimit::new("1/h".parse().unwrap(), Default::default(), Default::default());
        let now = limit.moment(tokio::time::Instant::now().into_std());
        let peer = ClientKey::of("192.0.2.1".parse().unwrap());
        let ask = |method: &str, target: &str, fields: &[&str]| {
            let counting = Some(Counting { limit: &limit, peer, now, core: &status.cores[0] });
            let request = Request::builder().method(method).uri(target);
            let request = fields.iter().fold(request, |request, name| request.header(*name, "x"));
            admit_request(Asker { counting, ..ASKER }, &request.body(()).unwrap())
        };
        let free = Verdict::Pass { last: false, left: None };
        let preflight = ["origin", "access-control-request-method"];
        for (method, target, fields) in [
            ("GET", "/health", &[][..]),
            ("GET", "/health/live", &[]),
            ("HEAD", "/health?a", &[]),
            ("OPTIONS", "/", &preflight),
        ] {
            assert!((0..10).all(|_| ask(method, target, fields) == free), "{method} {target}");
        }
        let last = ask("GET", "/healthy", &[]);
        assert!(matches!(last, Verdict::Pass { left: Some(_), .. }), "the first and last of this hour: {last:?}");
        for (method, target, fields) in [
            ("GET", "/", &preflight[..]),
            ("OPTIONS", "/", &preflight[..1]),
            ("OPTIONS", "*", &[]),
            ("GET", "/healthy", &[]),
        ] {
            let verdict = ask(method, target, fields);
            assert!(matches!(verdict, Verdict::Refused { denial, last: false } if denial.stays), "{method} {target}");
        }
        assert_eq!(status.cores[0].rate_limited.load(Relaxed), 4);
    }

    #[test]
    fn row_56_short_memory_ends_connections_with_their_answer_then_refuses_all_but_questions_about_health() {
        let ask = |memory, target: &'static str| {
            let asker = Asker { memory, ..ASKER };
            admit_request(asker, &Request::builder().uri(target).body(()).unwrap())
        };
        let pass = |last| Verdict::Pass { last, left: None };
        for target in ["/", "/health/live"] {
            assert_eq!(ask(MemoryLevel::IdleSooner, target), pass(false), "{target}");
            assert_eq!(ask(MemoryLevel::NoKeepAlive, target), pass(true), "{target}");
        }
        let refused = Verdict::Refused { denial: Denial::MEMORY_PRESSURE, last: true };
        assert_eq!(ask(MemoryLevel::Refusing, "/"), refused);
        for target in ["/health", "/health/live"] {
            assert_eq!(ask(MemoryLevel::Refusing, target), pass(true), "{target}");
        }
        let late = Asker { memory: MemoryLevel::NoKeepAlive, is_late: true, ..ASKER };
        let refused = Verdict::Refused { denial: Denial::OVERLOADED, last: true };
        assert_eq!(admit_request(late, &Request::new(())), refused, "nor is a connection kept for a refusal");
    }

    #[test]
    fn a_request_that_has_waited_too_long_is_refused_unless_it_asks_for_health() {
        let ask = |target: &'static str| {
            let asker = Asker { is_late: true, ..ASKER };
            admit_request(asker, &Request::builder().uri(target).body(()).unwrap())
        };
        for target in ["/health", "/health/live"] {
            assert_eq!(ask(target), Verdict::Pass { last: false, left: None }, "{target}");
        }
        for target in ["/", "/healthy", "/healthy/"] {
            let refused = Verdict::Refused { denial: Denial::OVERLOADED, last: false };
            assert_eq!(ask(target), refused, "{target}");
        }
    }
}
