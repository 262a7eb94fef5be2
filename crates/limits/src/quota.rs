//! How many requests in which time: `100/s`, `1000/min`, `10000/h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The most requests a second that a quota may allow, on average.
pub const RATE_MAX: u32 = 10_000;

/// The longest time in which a spent burst may come back, in seconds: what an entry of the table must be able to look ahead.
pub const BURST_SECONDS_MAX: u32 = 3_600;

/// Requests per second, minute or hour, and how many of them may come at once.
///
/// A client may send `burst` requests at once, and after that as many as the rate gives back: over any time `t` at most
/// `rate * t + burst`. Without [`with_burst`](Self::with_burst) the burst is the number of the quota.
///
/// ```
/// use baiwan_limits::Quota;
///
/// let quota: Quota = "1000/min".parse()?;
/// assert_eq!(quota.requests(), 1000);
/// assert_eq!(quota.window().as_secs(), 60);
/// assert_eq!(quota.burst(), 1000);
/// assert_eq!("100".parse::<Quota>()?.to_string(), "100/s");
/// assert_eq!(quota.with_burst(50)?.to_string(), "1000/min burst 50");
/// # Ok::<(), baiwan_limits::QuotaError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    requests: u32,
    unit: Unit,
    burst: u32,
}

/// The time that a quota counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// A quota that cannot be kept, or that cannot be read. Each message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// Neither a number nor a number and a unit.
    #[error(
        "`{0}` is no quota: give requests a second, as in `100` or `100/s`, or `1000/min`, or `10000/h`, each with `burst 50` if you like"
    )]
    Malformed(String),
    /// No request would ever be let through.
    #[error("a quota allows at least 1 request, and a burst of at least 1; to switch a limit off, leave it out")]
    Zero,
    /// More than [`RATE_MAX`] requests a second.
    #[error("{0} is too fast: a quota allows at most {RATE_MAX}/s, which is 600000/min or 36000000/h")]
    TooFast(String),
    /// A spent burst would need more than [`BURST_SECONDS_MAX`] to come back.
    #[error("a burst of {burst} at {quota} would need more than an hour to come back: at most {most} is allowed")]
    BurstTooLong {
        /// The rate, as one gives it.
        quota: String,
        /// The burst that was asked for, in requests.
        burst: u32,
        /// The largest burst at this rate, in requests.
        most: u32,
    },
}

impl Quota {
    /// A quota of `requests` a second.
    ///
    /// # Errors
    /// 0 requests, or more than [`RATE_MAX`].
    pub fn per_second(requests: u32) -> Result<Self, QuotaError> {
        Self::new(requests, Unit::Second)
    }

    fn new(requests: u32, unit: Unit) -> Result<Self, QuotaError> {
        let quota = Self { requests, unit, burst: requests };
        if requests == 0 {
            return Err(QuotaError::Zero);
        }
        if requests > RATE_MAX * unit.seconds() {
            return Err(QuotaError::TooFast(quota.rate()));
        }
        Ok(quota)
    }

    /// The same rate with another burst, in requests.
    ///
    /// # Errors
    /// A burst of 0, or one that would need more than an hour to come back.
    pub fn with_burst(self, burst: u32) -> Result<Self, QuotaError> {
        // At most 10,000 a second for an hour: 36,000,000.
        let most = u64::from(BURST_SECONDS_MAX) * u64::from(self.requests) / u64::from(self.unit.seconds());
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        match burst {
            0 => Err(QuotaError::Zero),
            _ if burst > most => Err(QuotaError::BurstTooLong { quota: self.rate(), burst, most }),
            _ => Ok(Self { burst, ..self }),
        }
    }

    /// The requests of one [`window`](Self::window).
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// A second, a minute or an hour.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.unit.seconds().into())
    }

    /// The requests that may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    fn rate(&self) -> String {
        format!("{}/{}", self.requests, self.unit.symbol())
    }
}

impl Unit {
    fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
        }
    }
}

impl FromStr for Quota {
    type Err = QuotaError;

    /// Reads `100`, `100/s`, `1000/min` or `10000/h`, each with or without ` burst 50`.
    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let malformed = || QuotaError::Malformed(text.to_owned());
        let (rate, burst) = match text.trim().split_once(" burst ") {
            Some((rate, burst)) => (rate.trim(), Some(number(burst.trim()).ok_or_else(malformed)?)),
            None => (text.trim(), None),
        };
        let (requests, unit) = match rate.split_once('/') {
            None => (rate, Unit::Second),
            Some((requests, "s")) => (requests, Unit::Second),
            Some((requests, "min")) => (requests, Unit::Minute),
            Some((requests, "h")) => (requests, Unit::Hour),
            Some(_) => return Err(malformed()),
        };
        let quota = Self::new(number(requests).ok_or_else(malformed)?, unit)?;
        burst.map_or(Ok(quota), |burst| quota.with_burst(burst))
    }
}

/// Decimal digits alone; a number that is too large for the type is too large for a quota as well.
fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u32::MAX))
}

impl fmt::Display for Quota {
    /// Shows what [`from_str`](Self::from_str) reads as the same quota.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.unit.symbol())?;
        if self.burst != self.requests {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Quota>().unwrap_err().to_string()
    }

    #[test]
    fn a_quota_is_read_by_the_second_the_minute_and_the_hour() {
        for (text, requests, seconds) in [
            ("100", 100, 1),
            ("100/s", 100, 1),
            ("1000/min", 1000, 60),
            ("10000/h", 10_000, 3600),
            (" 1/h ", 1, 3600),
            ("10000", 10_000, 1),
        ] {
            let quota: Quota = text.parse().unwrap();
            assert_eq!(
                (quota.requests(), quota.window().as_secs(), quota.burst()),
                (requests, seconds, requests),
                "{text}"
            );
        }
        assert_eq!("1/min burst 60".parse::<Quota>().unwrap().burst(), 60);
        assert_eq!("36000000/h".parse::<Quota>().unwrap().burst(), 36_000_000);
    }

    #[test]
    fn what_is_no_quota_is_told_what_is_one() {
        for text in [
            "",
            "-1",
            "+1",
            "1.5",
            "1/",
            "/s",
            "1/d",
            "1/m",
            "1/ s",
            "ten",
            "1/s/s",
            "1 /s",
            "1/s burst",
            "1/s burst x",
            "burst 1",
        ] {
            let said = error(text);
            assert!(
                said.contains("`100/s`") && said.contains("`1000/min`") && said.contains("`10000/h`"),
                "{text}: {said}"
            );
        }
        assert!(error("0").contains("at least 1 request"));
        assert!(error("1/s burst 0").contains("at least 1"));
        for text in ["10001", "600001/min", "36000001/h", "99999999999999999999"] {
            assert!(error(text).contains("at most 10000/s"), "{text}: {}", error(text));
        }
        assert_eq!(
            error("1/min burst 61"),
            "a burst of 61 at 1/min would need more than an hour to come back: at most 60 is allowed"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_given_again(requests in 1..=10_000_u32, unit in 0..3_usize, burst in 1..100_000_u32) {
            let unit = [Unit::Second, Unit::Minute, Unit::Hour][unit];
            let quota = Quota::new(requests, unit).unwrap();
            prop_assert_eq!(quota.to_string().parse(), Ok(quota));
            if let Ok(quota) = quota.with_burst(burst) {
                prop_assert_eq!(quota.to_string().parse(), Ok(quota));
                prop_assert!(f64::from(burst) / f64::from(requests) * quota.window().as_secs_f64() <= 3600.0);
            }
        }
    }
}
