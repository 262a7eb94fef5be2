//! What an engine is told: timeouts, sizes, behaviour. Numbers only; where they come from is the server's business.

use std::str::FromStr;
use std::time::Duration;

use baiwan_http1::Limits;

use crate::files::TURNED_AWAY_MAX;

/// What is received and discarded from a peer that was told that its connection ends, so that it can read why (RFC 9112,
/// section 9.6): the bounds of a close in stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Linger {
    /// The peer's end of stream is waited for this long.
    pub(crate) timeout: Duration,
    /// More bytes than this end the connection.
    pub(crate) bytes_max: u32,
}

impl Linger {
    /// For a peer that broke a rule, or that owes nothing; and for a body that nobody reads, after which the connection goes
    /// on.
    pub(crate) const SHORT: Self = Self { timeout: Duration::from_secs(1), bytes_max: 64 * 1024 };
    /// For a peer in the middle of a well-framed body. Many clients, and most proxies, read no answer before they have sent all.
    pub(crate) const UPLOAD: Self = Self { timeout: Duration::from_secs(5), bytes_max: 32 * 1024 * 1024 };
}

/// The settings of every core.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) http: Limits,
    /// From the first byte of a head to its last. `None`: no limit, here and below.
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) keep_alive_timeout: Option<Duration>,
    /// From the head of a request to the end of its body.
    pub(crate) body_timeout: Option<Duration>,
    /// Bytes a second that a body must bring while it is waited for; 0 is any.
    pub(crate) body_rate_min: u32,
    /// From the head of a request to the head of its answer.
    pub(crate) request_timeout: Option<Duration>,
    /// Without any progress in sending.
    pub(crate) write_timeout: Option<Duration>,
    /// Bytes of a request's body that axum's extractors collect, unless a route says otherwise. Streams are not concerned.
    pub(crate) buffered_body_bytes_max: usize,
    /// A peer that has ended its direction still gets its answer.
    pub(crate) half_close: bool,
    /// How long a connection may hold a stop without a request: idle, or with half a head.
    pub(crate) shutdown_idle: Duration,
    /// Connections beyond the maximum that a core tells so at the same time, and accepts at once; at least 1.
    pub(crate) turned_away_max: usize,
    /// `OPTIONS *` is the app's to answer.
    pub(crate) options_asterisk: bool,
    pub(crate) shutdown_delay: Duration,
    /// In all, the delay included.
    pub(crate) shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: Limits::default(),
            header_timeout: Some(Duration::from_secs(10)),
            keep_alive_timeout: Some(Duration::from_secs(75)),
            body_timeout: Some(Duration::from_hours(1)),
            body_rate_min: 500,
            request_timeout: None,
            write_timeout: Some(Duration::from_secs(30)),
            buffered_body_bytes_max: 1024 * 1024,
            half_close: false,
            shutdown_idle: Duration::from_secs(5),
            turned_away_max: TURNED_AWAY_MAX,
            options_asterisk: false,
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(25),
        }
    }
}

/// How a core waits for its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum EventLoop {
    /// The best that the system has: [`Epoll`](Self::Epoll) on Linux, [`Portable`](Self::Portable) elsewhere.
    #[default]
    Auto,
    /// Baiwan's engine on Linux's epoll.
    Epoll,
    /// hyper on plain Tokio: the same service anywhere, for development. It holds far fewer connections.
    Portable,
}

impl EventLoop {
    /// What `Auto` stands for here.
    pub(crate) fn resolve(self) -> Self {
        match self {
            Self::Auto if cfg!(all(target_os = "linux", not(baiwan_portable))) => Self::Epoll,
            Self::Auto => Self::Portable,
            chosen => chosen,
        }
    }

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::Portable => "portable",
        }
    }
}

impl FromStr for EventLoop {
    type Err = &'static str;

    /// The error says what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Auto, Self::Epoll, Self::Portable];
        all.into_iter().find(|choice| choice.name() == text).ok_or("auto, epoll or portable")
    }
}

/// Parses a timeout: a whole number and its unit, `500ms`, `10s`, `2m` or `1h`; `0` is none.
///
/// # Errors
/// Says what is allowed.
///
/// # Example
/// ```
/// # use std::time::Duration;
/// assert_eq!(baiwan::parse_timeout("90s"), Ok(Some(Duration::from_secs(90))));
/// assert_eq!(baiwan::parse_timeout("0"), Ok(None));
/// assert!(baiwan::parse_timeout("10").is_err());
/// ```
pub fn parse_timeout(text: &str) -> Result<Option<Duration>, &'static str> {
    const ALLOWED: &str = "a whole number with a unit, such as 500ms, 10s, 2m or 1h; or 0 for none";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| ALLOWED)?;
    let milliseconds = match unit {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(ALLOWED),
    };
    let milliseconds = number.checked_mul(milliseconds).ok_or(ALLOWED)?;
    Ok(Some(Duration::from_millis(milliseconds)).filter(|timeout| !timeout.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_timeout("500ms"), Ok(Some(Duration::from_millis(500))));
        assert_eq!(parse_timeout("2m"), Ok(Some(Duration::from_secs(120))));
        assert_eq!(parse_timeout("0s"), Ok(None));
        for wrong in
            ["", "s", "-1s", "1.5s", "10", "1 s", "10 s ", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse_timeout(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn event_loops_are_found_by_name() {
        assert_eq!("portable".parse(), Ok(EventLoop::Portable));
        assert!("kqueue".parse::<EventLoop>().is_err());
    }
}
