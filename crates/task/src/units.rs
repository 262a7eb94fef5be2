//! Durations as messages say them: `250 ms`, `2 s`, `1.5 s`.

use std::fmt;
use std::time::Duration;

/// Says a duration in the largest unit of which it has at least one.
pub(crate) struct Spoken(pub(crate) Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let (unit, name) = match nanoseconds {
            1_000_000_000.. => (1_000_000_000, "s"),
            1_000_000.. => (1_000_000, "ms"),
            1_000.. => (1_000, "µs"),
            _ => (1, "ns"),
        };
        let thousandths = nanoseconds % unit * 1_000 / unit;
        write!(f, "{}", nanoseconds / unit)?;
        if thousandths > 0 {
            write!(f, ".{}", format!("{thousandths:03}").trim_end_matches('0'))?;
        }
        write!(f, " {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promise_a_duration_is_said_in_the_unit_one_would_use() {
        let said = |nanoseconds| Spoken(Duration::from_nanos(nanoseconds)).to_string();
        assert_eq!(said(0), "0 ns");
        assert_eq!(said(999), "999 ns");
        assert_eq!(said(1_000), "1 µs");
        assert_eq!(said(250_000_000), "250 ms");
        assert_eq!(said(1_500_000_000), "1.5 s");
        assert_eq!(said(1_050_000_000), "1.05 s");
        assert_eq!(said(2_000_000_001), "2 s");
        assert_eq!(said(3_600_000_000_000), "3600 s");
    }
}
