//! What layers say while a call of the app is polled: which route it is ([`RouteLayer`](crate::RouteLayer)), which limits that route
//! has ([`RouteLimits`]), and what rate limits among them have decided ([`baiwan_limits::RateLimit`]).
//!
//! Both event loops open a scope around each poll of a call. A layer that is called within it leaves here what it has to say, and the
//! loop takes that after the poll, so nothing is inserted into the request and nothing is allocated. While records are made, the scope
//! also posts which route is being polled on this core, for whoever watches from another thread.
//!
//! The invariant: what is said reaches the exchange whose call was being polled, or nobody.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use baiwan_limits::CountedAs;

use crate::rate_limit::Decisions;
use crate::recorder::Recorder;
use crate::route_limits::RouteLimits;
use crate::route_table::RouteNumber;

/// Templates whose number a core keeps. More than the table tells apart, because those that are `other` are kept as well.
const NUMBERS_KEPT_MAX: usize = 16 * 1024;

/// What the layers said that one poll of a call has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) limits: RouteLimits,
    /// The body is beyond the limit by what is known of it, and nobody was called.
    pub(crate) is_too_large: bool,
    /// The request is one of an `EventSource`, and its handler may be late.
    pub(crate) for_events: bool,
    /// What rate limits have decided.
    pub(crate) decisions: Decisions,
}

impl Told {
    const NOTHING: Self =
        Self { limits: RouteLimits::NONE, is_too_large: false, for_events: false, decisions: Decisions::NONE };

    /// Adds what was said later.
    pub(crate) fn add(&mut self, later: &Self) {
        self.limits.add(&later.limits);
        self.is_too_large |= later.is_too_large;
        self.for_events |= later.for_events;
        self.decisions.add(later.decisions);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// No call is being polled.
    Closed,
    /// One is, and no layer has said anything but its route.
    Open,
    /// What was said is in `TOLD`.
    Told,
}

thread_local! {
    static SCOPE: Cell<Scope> = const { Cell::new(Scope::Closed) };
    static TOLD: Cell<Told> = const { Cell::new(Told::NOTHING) };
    /// The route of the call that is being polled; none where nobody makes records.
    static ROUTE: Cell<Option<RouteNumber>> = const { Cell::new(None) };
    /// Where the route of the path will be kept that was asked for last, if it is told in the scope that follows.
    static ASKED: Cell<Option<u16>> = const { Cell::new(None) };
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The core whose calls this thread polls, which is one and the same in a server.
struct Here {
    recorder: Arc<Recorder>,
    /// What its templates are numbered.
    numbers: HashMap<Box<str>, RouteNumber, BuildHasherDefault<TemplateHasher>>,
    paths: KnownPaths,
}

impl Here {
    fn new(recorder: &Arc<Recorder>) -> Self {
        Self { recorder: Arc::clone(recorder), numbers: HashMap::default(), paths: KnownPaths::default() }
    }

    fn number(&mut self, template: &str) -> RouteNumber {
        if let Some(number) = self.numbers.get(template) {
            return *number;
        }
        let number = self.recorder.routes().intern(template);
        if self.numbers.len() < NUMBERS_KEPT_MAX {
            self.numbers.insert(template.into(), number);
        }
        number
    }
}

/// Paths that a core remembers.
const PATHS_MAX: usize = 512;
/// Longer ones are not remembered.
const PATH_BYTES_MAX: usize = 54;

/// The routes of some paths that were asked for: one for each place, which the path's hash decides, so that a client that asks for any number
/// of paths takes no memory, and no time but its own.
#[derive(Default)]
struct KnownPaths {
    /// Made for the first.
    places: Vec<KnownPath>,
}

#[derive(Clone, Copy)]
struct KnownPath {
    bytes: [u8; PATH_BYTES_MAX],
    length: u8,
    route: Option<RouteNumber>,
}

impl KnownPaths {
    fn find(&mut self, path: &str) -> Option<RouteNumber> {
        ASKED.set(None);
        let path = path.as_bytes();
        if path.len() > PATH_BYTES_MAX {
            return None;
        }
        if self.places.is_empty() {
            let none = KnownPath { bytes: [0; PATH_BYTES_MAX], length: 0, route: None };
            self.places = vec![none; PATHS_MAX];
        }
        let mut hasher = TemplateHasher::default();
        hasher.write(path);
        let place = hasher.finish() as usize % PATHS_MAX;
        let known = &mut self.places[place];
        if known.bytes[..usize::from(known.length)] == *path {
            if let Some(route) = known.route {
                return Some(route);
            }
        } else {
            known.bytes[..path.len()].copy_from_slice(path);
            (known.length, known.route) = (path.len() as u8, None);
        }
        ASKED.set(Some(place as u16));
        None
    }

    /// The path that was asked for last has this route.
    fn learn(&mut self, route: RouteNumber) {
        if let Some(place) = ASKED.take() {
            self.places[usize::from(place)].route = Some(route);
        }
    }
}

/// FNV-1a by words instead of bytes. Templates are the app's own, so nobody can choose them to collide; paths are clients', and one that
/// collides takes a place from another, which its core must be told again.
#[derive(Default)]
struct TemplateHasher(u64);

impl TemplateHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

impl Hasher for TemplateHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_ne_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_ne_bytes(last));
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Closes the scope, in a panic, too.
struct Close<'a> {
    recorder: Option<&'a Arc<Recorder>>,
    route: &'a Cell<RouteNumber>,
}

impl Drop for Close<'_> {
    #[inline]
    fn drop(&mut self) {
        SCOPE.set(Scope::Closed);
        if let Some(recorder) = self.recorder {
            self.route.set(ROUTE.take().unwrap_or_default());
            ASKED.set(None);
            recorder.end_poll();
        }
    }
}

/// Whose call a scope is, as far as paths are concerned whose route is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// That of the request whose path was asked for last ([`known_route`]): what is said of its route is so of the path, too.
    Asked,
    /// That of any other.
    Other,
}

/// Polls a call. Returns what layers said of limits that it reached; where records are made, the route is written to `route` as soon as
/// it is known, and stays there should the call panic.
pub(crate) fn listen<T>(
    recorder: Option<&Arc<Recorder>>,
    route: &Cell<RouteNumber>,
    whose: Whose,
    poll: impl FnOnce() -> T,
) -> (T, Option<Told>) {
    let mut told = None;
    let polled = listen_for(&mut told, recorder, route, whose, poll);
    (polled, told)
}

/// As [`listen`], for what is large: what comes of the poll is not moved, and `told` is written if layers have said anything.
#[inline]
pub(crate) fn listen_for<T>(
    told: &mut Option<Told>,
    recorder: Option<&Arc<Recorder>>,
    route: &Cell<RouteNumber>,
    whose: Whose,
    poll: impl FnOnce() -> T,
) -> T {
    SCOPE.set(Scope::Open);
    if whose == Whose::Other {
        ASKED.set(None);
    }
    if let Some(recorder) = recorder {
        begin(recorder, route.get());
    }
    let _close = Close { recorder, route };
    let polled = poll();
    if let Some(heard) = heard() {
        *told = Some(heard);
    }
    polled
}

fn begin(recorder: &Arc<Recorder>, route: RouteNumber) {
    ROUTE.set(Some(route));
    recorder.begin_poll(route);
    HERE.with_borrow_mut(|here| {
        if !here.as_ref().is_some_and(|here| Arc::ptr_eq(&here.recorder, recorder)) {
            *here = Some(Here::new(recorder));
        }
    });
}

/// The route of a request for this path, if that is known from an earlier one: the app need not tell then. If it is not, the scope
/// that is this request's may tell ([`Whose::Asked`]).
#[inline]
pub(crate) fn known_route(recorder: &Arc<Recorder>, path: &str) -> Option<RouteNumber> {
    HERE.with_borrow_mut(|here| match here {
        Some(here) if Arc::ptr_eq(&here.recorder, recorder) => here.paths.find(path),
        _ => {
            ASKED.set(None);
            *here = Some(Here::new(recorder));
            None
        }
    })
}

/// The core of this thread has ended: nothing of it is held here any longer. Otherwise it would be until the thread ends, and what its access
/// log has left out would be told after the server's end.
pub(crate) fn leave_core() {
    drop(HERE.take());
}

/// What was said so far of limits in the poll that goes on.
#[inline]
pub(crate) fn heard() -> Option<Told> {
    (SCOPE.get() == Scope::Told).then(|| TOLD.get())
}

/// Says something of limits. Returns whether somebody listens.
pub(crate) fn tell(told: Told) -> bool {
    let told = match SCOPE.get() {
        Scope::Closed => return false,
        Scope::Open => told,
        Scope::Told => {
            let mut all = TOLD.get();
            all.add(&told);
            all
        }
    };
    TOLD.set(told);
    SCOPE.set(Scope::Told);
    true
}

/// Says what a rate limit has counted the request as.
fn tell_counted(counted: CountedAs) {
    tell(Told { decisions: Decisions::one(counted), ..Told::NOTHING });
}

/// Has the rate limits of layers say what they decide, in this process, from now on.
pub(crate) fn listen_to_rate_limits() {
    baiwan_limits::listen_to_rate_limits(tell_counted);
}

/// Whether somebody wants to know the route of the call that is being polled, and it is not known.
#[inline]
pub(crate) fn wants_route() -> bool {
    SCOPE.get() != Scope::Closed && ROUTE.get() == Some(RouteNumber::UNMATCHED)
}

/// Says which route the call is that is being polled. Of several, the first stands.
pub(crate) fn tell_route(template: &str) {
    say_route(template, false);
}

/// The same, by who decides by the path alone: other requests for the path have this route, too.
#[cfg(feature = "matched-path")]
pub(crate) fn tell_route_of_path(template: &str) {
    say_route(template, true);
}

fn say_route(template: &str, is_of_path: bool) {
    if !wants_route() {
        return;
    }
    HERE.with_borrow_mut(|here| {
        if let Some(here) = here {
            let route = here.number(template);
            ROUTE.set(Some(route));
            here.recorder.begin_poll(route);
            if is_of_path {
                here.paths.learn(route);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Observer;

    fn say(limits: RouteLimits) -> bool {
        tell(Told { limits, ..Told::default() })
    }

    fn listen<T>(poll: impl FnOnce() -> T) -> (T, Option<Told>) {
        super::listen(None, &Cell::default(), Whose::Other, poll)
    }

    #[test]
    fn what_is_said_reaches_the_poll_in_which_it_is_said_and_no_other() {
        assert!(!say(RouteLimits::new().body_min_rate(1)), "nobody listens");
        assert!(listen(|| ()).1.is_none());
        let (said, told) = listen(|| say(RouteLimits::new().body_min_rate(2)));
        assert!(said);
        assert_eq!(told.unwrap().limits.body_rate_min, Some(2));
        let panicked = std::panic::catch_unwind(|| listen(|| panic!("after {}", say(RouteLimits::new()))));
        assert!(panicked.is_err());
        assert!(!say(RouteLimits::new()));
        assert!(listen(|| ()).1.is_none());
    }

    #[test]
    fn a_core_that_has_ended_leaves_nothing_with_its_thread() {
        let recorder = Recorder::of_observer(Observer::new(|_| {}));
        super::listen(Some(&recorder), &Cell::default(), Whose::Other, || tell_route("/users/{id}"));
        assert_eq!(Arc::strong_count(&recorder), 2, "the thread knows its routes by number");
        leave_core();
        assert_eq!(Arc::strong_count(&recorder), 1);
    }

    #[test]
    fn a_route_is_told_to_whoever_makes_records_and_stays_known_after_a_panic() {
        let [one, two] = [(); 2].map(|()| Recorder::of_observer(Observer::new(|_| {})));
        let route = Cell::default();
        super::listen(Some(&one), &route, Whose::Other, || {
            assert_eq!(one.polling(), Some(RouteNumber::UNMATCHED));
            tell_route("/users/{id}");
            tell_route("/inside");
            assert_eq!(one.polling(), Some(route_of(&one, "/users/{id}")));
        });
        assert_eq!((route.get(), one.polling()), (route_of(&one, "/users/{id}"), None));
        // A later poll of the same call: what is known stays.
        super::listen(Some(&one), &route, Whose::Other, || {
            assert_eq!(one.polling(), Some(route.get()));
            tell_route("/inside");
        });
        assert_eq!(one.routes().template(route.get()), "/users/{id}");
        // Another server on the same thread has numbers of its own.
        let route = Cell::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            super::listen(Some(&two), &route, Whose::Other, || {
                tell_route("/panics");
                std::panic::resume_unwind(Box::new("on purpose"))
            })
        }));
        assert!(panicked.is_err());
        assert_eq!((two.routes().template(route.get()), two.polling()), ("/panics", None));
        // Nobody makes records.
        listen(|| {
            assert!(!wants_route());
            tell_route("/unheard");
        });
    }

    #[test]
    fn a_path_has_the_route_of_the_request_that_asked_for_it_and_of_no_other() {
        let [one, two] = [(); 2].map(|()| Recorder::of_observer(Observer::new(|_| {})));
        let say = |recorder, whose, template: &str| {
            super::listen(Some(recorder), &Cell::default(), whose, || say_route(template, true));
        };
        assert_eq!(known_route(&one, "/first"), None, "the first of a core is not kept");
        for answered_by_the_server in ["/a", "/b"] {
            assert_eq!(known_route(&one, answered_by_the_server), None);
            say(&one, Whose::Other, "/health");
            assert_eq!(known_route(&one, answered_by_the_server), None);
        }
        say(&one, Whose::Asked, "/{letter}");
        assert_eq!(known_route(&one, "/b"), Some(route_of(&one, "/{letter}")));
        assert_eq!(known_route(&one, "/a"), None);
        // Another server on the same thread begins with nothing.
        assert_eq!(known_route(&two, "/a"), None);
        say(&two, Whose::Asked, "/health");
        assert_eq!(known_route(&two, "/a"), None);
    }

    fn route_of(recorder: &Recorder, template: &str) -> RouteNumber {
        recorder.routes().intern(template)
    }
}
