//! The choice of what a core does that gets more requests than it can answer.

use std::str::FromStr;

use super::value::is_off;

/// What a core does while requests wait for it.
///
/// With `Auto` it measures how long a request that is ready waits for its handler. If that was 5 ms or more for 100 ms without a break, the
/// core is overloaded, and until it was less for 100 ms without a break, it serves the newest request first, and answers those that have
/// waited for 20 ms with 503 and `Retry-After`; their connections stay. It is the law of CoDel (K. Nichols and V. Jacobson, "Controlling
/// Queue Delay", ACM Queue 10(5), 2012), with the order of B. Maurer, "Fail at Scale" (ACM Queue 13(8), 2015).
///
/// `/health` and `/health/*` are always answered, and what has begun (a stream, an upload, a handler that waits) goes on. Requests that one connection has
/// sent behind each other are refused together.
///
/// What handlers compute counts, before they wait and after; in tasks of their own it does not. Handlers that *wait* do not keep a core
/// busy, so this sees nothing of them: for those there is `ConcurrencyLimit` of `baiwan-limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Overload {
    /// Requests are served in the order in which they came, however long they have waited.
    #[default]
    Off,
    /// An overloaded core refuses what has waited too long.
    Auto,
}

impl Overload {
    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

impl FromStr for Overload {
    type Err = &'static str;

    /// The error says what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            _ if is_off(text) => Ok(Self::Off),
            _ => Err("auto or off"),
        }
    }
}
