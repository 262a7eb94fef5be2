//! What a run does, as data: connections, the request, checks, and the phases one after the other.
//!
//! A plan is the same for every worker process; a [`Share`] says which part of it is one worker's. Nothing here acts.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Where to connect to: `HOST:PORT` or `unix:/path`, an address that was looked up.
    pub address: String,
    /// The bytes of one request, head and body.
    #[serde(with = "hex")]
    pub request: Vec<u8>,
    /// Whether it is one of HEAD: then no answer has a body.
    pub head_request: bool,
    /// Connections in all.
    pub connections: u64,
    /// Which connections send requests, as a share of all: more than 0, at most 1.
    pub active: f64,
    /// Requests outstanding on one connection at the same time, at least 1.
    pub pipeline: u32,
    /// Each request has a connection of its own, whose opening counts as part of its latency.
    pub connect_each: bool,
    /// A connection that was lost is opened again.
    pub reconnect: bool,
    /// The addresses to connect from, where the system is not to choose.
    pub sources: Option<Sources>,
    /// How long an answer may take, and how long opening may make no progress. None: for ever.
    pub timeout: Option<Duration>,
    /// The status that a right answer has. None: any below 400.
    pub expect_status: Option<u16>,
    /// The body that a right answer has. None: any.
    #[serde(with = "hex_option")]
    pub expect_body: Option<Vec<u8>>,
    /// Answers are streams of events (`text/event-stream`) that do not end.
    pub events: bool,
    /// What is done, one after the other.
    pub phases: Vec<Phase>,
}

impl Plan {
    /// A plan without phases: what a run has unless it asks for something else. Each connection has one request outstanding,
    /// which is still to be given; one that is lost stays lost; any answer below 400 is right, however late.
    pub fn new(address: impl Into<String>, connections: u64) -> Self {
        Self {
            address: address.into(),
            request: Vec::new(),
            head_request: false,
            connections,
            active: 1.0,
            pipeline: 1,
            connect_each: false,
            reconnect: false,
            sources: None,
            timeout: None,
            expect_status: None,
            expect_body: None,
            events: false,
            phases: Vec::new(),
        }
    }

    /// How many connections send requests, in all.
    pub(crate) fn active_count(&self) -> u64 {
        ((self.connections as f64 * self.active).round() as u64).clamp(1, self.connections.max(1))
    }
}

/// A part of a run. It ends in all workers before the next begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opens all connections, evenly over `ramp`, or as fast as `opening_max` of them at a time allow.
    Open {
        /// From the first to the last.
        ramp: Duration,
        /// A connection counts as open when it was answered once.
        ask: bool,
        /// Connections that are being opened at the same time, in all.
        opening_max: u64,
    },
    /// Closed loop: the next request follows the answer.
    Closed {
        /// Ends after this time. None: when `requests` are answered.
        duration: Option<Duration>,
        /// Requests in all. None: any number.
        requests: Option<u64>,
        /// Requests on each connection. None: any number.
        each: Option<u32>,
        /// Requests outstanding at the same time, in all. None: what connections and pipelining allow.
        outstanding_max: Option<u64>,
        /// Its figures are not part of the run's.
        warm_up: bool,
    },
    /// Open loop: requests are due at constant intervals, without waiting for earlier answers.
    Rate {
        /// Requests a second, in all.
        per_second: f64,
        /// From the first until the interval after the last is over.
        duration: Duration,
        /// Its figures are not part of the run's.
        warm_up: bool,
    },
    /// Sends nothing. Streams bring their events meanwhile.
    Hold {
        /// How long.
        duration: Duration,
    },
    /// Closes every connection.
    Close,
}

impl Phase {
    /// Its name in a report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Closed { warm_up: true, .. } | Self::Rate { warm_up: true, .. } => "warm-up",
            Self::Closed { each: Some(_), .. } => "round",
            Self::Closed { .. } => "closed loop",
            Self::Rate { .. } => "open loop",
            Self::Hold { .. } => "hold",
            Self::Close => "close",
        }
    }

    /// Whether its requests are those that the run is about.
    pub fn is_measured(&self) -> bool {
        match self {
            Self::Closed { warm_up, .. } | Self::Rate { warm_up, .. } => !warm_up,
            Self::Hold { .. } => true,
            Self::Open { .. } | Self::Close => false,
        }
    }

    /// Whether its requests only prepare for others.
    pub(crate) fn is_warm_up(&self) -> bool {
        matches!(self, Self::Closed { warm_up: true, .. } | Self::Rate { warm_up: true, .. })
    }

    /// How long it lasts, where that is known before.
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Self::Open { ramp, .. } => Some(*ramp).filter(|ramp| !ramp.is_zero()),
            Self::Closed { duration, .. } => *duration,
            Self::Rate { duration, .. } | Self::Hold { duration } => Some(*duration),
            Self::Close => None,
        }
    }
}

/// Addresses to connect from: `count` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The first.
    pub first: IpAddr,
    /// How many, at least 1.
    pub count: u64,
}

impl Sources {
    /// The `index`-th address; they begin anew after the last.
    pub fn at(&self, index: u64) -> IpAddr {
        let offset = index % self.count;
        match self.first {
            IpAddr::V4(first) => IpAddr::V4((u32::from(first).wrapping_add(offset as u32)).into()),
            IpAddr::V6(first) => IpAddr::V6((u128::from(first).wrapping_add(offset.into())).into()),
        }
    }
}

/// One worker's part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which worker, from 0 on.
    pub index: u64,
    /// How many there are, at least 1.
    pub of: u64,
}

impl Share {
    /// This worker's part of something that can be counted. The parts of all workers add up to it, and differ by at most 1.
    pub fn part(&self, all: u64) -> u64 {
        all / self.of + u64::from(self.index < all % self.of)
    }

    /// The same, but at least 1: for maxima that must not become 0.
    pub fn part_min_1(&self, all: u64) -> u64 {
        self.part(all).max(1)
    }

    /// The same worker's share among the first `of` workers. None: it is not one of these.
    pub(crate) fn among_first(&self, of: u64) -> Option<Self> {
        let of = self.of.min(of);
        (self.index < of).then_some(Self { index: self.index, of })
    }

    /// The parts of the workers before this one.
    pub fn before(&self, all: u64) -> u64 {
        all / self.of * self.index + self.index.min(all % self.of)
    }
}

/// Bytes as hexadecimal text, because JSON has no bytes.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::ptr_arg, reason = "what serde calls with the field")]
    pub(super) fn serialize<S: Serializer>(bytes: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        match digits.filter(|digits| digits.len() % 2 == 0) {
            Some(digits) => Ok(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()),
            None => Err(de::Error::custom("pairs of hexadecimal digits")),
        }
    }
}

mod hex_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Hex(#[serde(with = "super::hex")] Vec<u8>);

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Hex).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Hex>::deserialize(deserializer)?.map(|hex| hex.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_workers_are_the_whole_and_do_not_overlap() {
        for (all, of) in [(10, 3), (1_000_000, 56), (2, 5), (0, 2)] {
            let shares: Vec<Share> = (0..of).map(|index| Share { index, of }).collect();
            assert_eq!(shares.iter().map(|share| share.part(all)).sum::<u64>(), all);
            let mut next = 0;
            for share in shares {
                assert_eq!(share.before(all), next);
                next += share.part(all);
            }
        }
    }

    #[test]
    fn requests_are_shared_by_workers_that_have_a_connection_to_ask_on() {
        for (active, of) in [(1, 2), (3, 7), (7, 7), (50, 7)] {
            let shares = (0..of).map(|index| Share { index, of });
            let asking: Vec<Share> = shares.clone().filter_map(|share| share.among_first(active)).collect();
            assert!(shares.take(asking.len()).all(|share| share.part(active) > 0), "{active} of {of}");
            assert_eq!(asking.iter().map(|share| share.part(1000)).sum::<u64>(), 1000, "{active} of {of}");
        }
    }

    #[test]
    fn sources_are_consecutive_and_begin_anew() {
        let sources = Sources { first: "127.0.0.255".parse().unwrap(), count: 3 };
        let texts: Vec<String> = (0..4).map(|index| sources.at(index).to_string()).collect();
        assert_eq!(texts, ["127.0.0.255", "127.0.1.0", "127.0.1.1", "127.0.0.255"]);
    }
}
