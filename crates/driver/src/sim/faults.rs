//! Faults: what a kernel and a network may do to an engine at any moment, chosen by a seed or by a script.
//!
//! A fault is injected at a *call*: one receive, one entry of a transmit, one accept, one registration, one event about to be
//! reported. It never does what a kernel would not do: whoever is told `WouldBlock`, or gets less than is there, hears of the
//! rest by an event. Interrupted calls (`EINTR`) are retried inside of the epoll backend and so never reach an engine; there
//! is nothing to simulate.

use std::io;

use super::Decisions;

/// The calls that a fault can be injected at; each kind is numbered on its own, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// An accept of a listener.
    Accept,
    /// A listener that is to be reported again after a rest.
    Listen,
    /// The registration of a socket.
    Watch,
    /// A receive.
    Receive,
    /// An entry of a transmit.
    Transmit,
    /// An event about a socket that is about to be reported.
    Event,
}

impl Call {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Accept, Self::Listen, Self::Watch, Self::Receive, Self::Transmit, Self::Event];

    /// What can happen at such a call.
    pub fn faults(self) -> Vec<Fault> {
        let errors = |errors: &[i32]| errors.iter().copied().map(Fault::Error).collect::<Vec<_>>();
        let soft: &[Fault] = match self {
            Self::Accept => &[Fault::Short(1), Fault::Reset],
            Self::Listen | Self::Watch => &[],
            Self::Receive | Self::Transmit => &[Fault::Short(1), Fault::Short(20), Fault::Again, Fault::Reset],
            Self::Event => &[Fault::Delay(1), Fault::Delay(3), Fault::Reset],
        };
        [soft.to_vec(), errors(self.errors())].concat()
    }

    /// The error numbers that such a call can end with.
    fn errors(self) -> &'static [i32] {
        match self {
            Self::Accept => &[EMFILE, ENFILE, ENOBUFS, ENOMEM],
            Self::Listen | Self::Watch => &[ENOMEM, ENOSPC],
            Self::Receive => &[ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM],
            Self::Transmit => &[ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH, ENOBUFS, ENOMEM],
            Self::Event => &[],
        }
    }
}

// Linux's numbers.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;
const ETIMEDOUT: i32 = 110;
const EHOSTUNREACH: i32 = 113;

/// What happens instead of what would have happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No more than this number of bytes, or connections, at this call.
    Short(usize),
    /// `WouldBlock`, although there is something, or room.
    Again,
    /// The call fails with this error number.
    Error(i32),
    /// The connection is reset at this moment; of an accept, the first connection that waits has died.
    Reset,
    /// The event comes this number of steps later.
    Delay(u64),
}

impl Fault {
    /// Whether it ends the connection that it happens to.
    pub fn is_deadly(self) -> bool {
        matches!(self, Self::Error(_) | Self::Reset)
    }
}

pub(super) fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// How often faults happen, each out of a thousand calls.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rates {
    /// Receives and transmits of fewer bytes than could be had; accepts of one connection.
    pub short: usize,
    /// `WouldBlock` although there is something.
    pub again: usize,
    /// Resets of the connection, at a receive, a transmit or an event.
    pub reset: usize,
    /// Other errors of a receive or a transmit.
    pub error: usize,
    /// Failed registrations.
    pub watch: usize,
    /// The beginning of a time in which nothing can be accepted.
    pub exhausted: usize,
    /// Connections that die while they wait to be accepted.
    pub dead: usize,
    /// Events that come some steps later, and together with what has happened meanwhile.
    pub delay: usize,
    /// Events about a socket that was closed, when another may have its place.
    pub stale: usize,
    /// Events that say what is not so; out of a thousand steps.
    pub spurious: usize,
}

/// Which faults happen to the driver of a network.
#[derive(Debug)]
pub struct Faults {
    decisions: Decisions,
    pub(super) rates: Rates,
    script: Option<(Call, u64, Fault)>,
}

impl Faults {
    /// Faults at random.
    pub fn at_random(decisions: Decisions, rates: Rates) -> Self {
        Self { decisions, rates, script: None }
    }

    /// One fault, at the `number`-th call of its kind, counted from 0.
    pub fn at_call(call: Call, number: u64, fault: Fault) -> Self {
        Self { decisions: Decisions::from_bytes(&[]), rates: Rates::default(), script: Some((call, number, fault)) }
    }

    pub(super) fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// What happens at the `number`-th call of this kind.
    pub(super) fn at(&self, call: Call, number: u64) -> Option<Fault> {
        if let Some((kind, at, fault)) = self.script {
            return (kind == call && at == number).then_some(fault);
        }
        let (rates, decisions) = (&self.rates, &self.decisions);
        let failed = |rate| decisions.chance(rate).then(|| Fault::Error(decisions.one_of(call.errors())));
        let reset = |rate| decisions.chance(rate).then_some(Fault::Reset);
        let short = |most| decisions.chance(rates.short).then(|| Fault::Short(decisions.within(1..=most)));
        match call {
            Call::Accept => failed(rates.exhausted).or_else(|| reset(rates.dead)).or_else(|| short(1)),
            Call::Listen | Call::Watch => failed(rates.watch),
            Call::Receive | Call::Transmit => reset(rates.reset)
                .or_else(|| failed(rates.error))
                .or_else(|| decisions.chance(rates.again).then_some(Fault::Again))
                .or_else(|| short([1, 4, 100, 4000][decisions.below(4)])),
            Call::Event => {
                let delay = || decisions.chance(rates.delay).then(|| Fault::Delay(decisions.within(1..=4) as u64));
                reset(rates.reset).or_else(delay)
            }
        }
    }
}
