//! Scales: where a value lies between the ends of an axis, and the round values in between.

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0 on.
    Linear,
    /// By factors.
    Logarithmic,
    /// A quantile from 0 to 1, so that 90 %, 99 %, 99.9 % … are equally far from each other.
    Quantile,
}

/// One axis of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// What it counts, and the unit where `text` does not say it.
    pub title: &'a str,
    /// How it counts.
    pub scale: Scale,
    /// A value in words.
    pub text: fn(f64) -> String,
}

/// Where an axis begins and ends, and its round values.
pub(super) struct Span {
    scale: Scale,
    begin: f64,
    end: f64,
    ticks: Vec<f64>,
}

/// Ticks with their places, those apart that have none.
pub(super) fn mapped(span: &Span, place: impl Fn(f64) -> Option<f64>) -> impl Iterator<Item = (f64, f64)> {
    span.ticks.iter().filter_map(move |tick| Some((place(*tick)?, *tick)))
}

impl Span {
    /// The span that holds all values. None where there is no value.
    pub(super) fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let known = values.filter_map(|value| scale.transformed(value).map(|_| value));
        let (low, high) =
            known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let ticks = match scale {
            Scale::Linear => even_ticks(low.min(0.0), high),
            Scale::Logarithmic => decimal_ticks(low, high),
            Scale::Quantile => vec![0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999, 0.999_999_9],
        };
        let (first, last) = (*ticks.first()?, *ticks.last()?);
        let (begin, end) = match scale {
            Scale::Quantile => (0.0, high.max(0.9)),
            Scale::Linear | Scale::Logarithmic => (first, last),
        };
        let ticks = ticks.into_iter().filter(|tick| (begin..=end).contains(tick)).collect();
        Some(Self { scale, begin, end, ticks })
    }

    /// The same, but it ends with `last` and not with a round value.
    pub(super) fn until(mut self, last: f64) -> Self {
        if last > self.begin && last < self.end {
            self.end = last;
            self.ticks.retain(|tick| *tick <= last);
        }
        self
    }

    /// Where a value lies: 0 at the begin, 1 at the end. None: it cannot be drawn.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let [begin, end, value] = [self.begin, self.end, value].map(|value| self.scale.transformed(value));
        let (begin, end) = (begin?, end?);
        value.map(|value| (value - begin) / (end - begin))
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        self.ticks.iter().copied()
    }
}

impl Scale {
    fn transformed(self, value: f64) -> Option<f64> {
        let transformed = match self {
            Self::Linear => value,
            Self::Logarithmic => value.log10(),
            Self::Quantile => -(1.0 - value).log10(),
        };
        transformed.is_finite().then_some(transformed)
    }
}

/// Round values, 1, 2 or 5 apart, from at or below `low` to at or above `high`.
fn even_ticks(low: f64, high: f64) -> Vec<f64> {
    const WANTED: f64 = 5.0;
    let width = if high > low { high - low } else { 1.0 };
    let power = 10f64.powf((width / WANTED).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| width / step <= WANTED);
    let step = step.unwrap_or(power * 10.0);
    let (first, last) = ((low / step).floor() as i64, ((low + width) / step - 1e-9).ceil() as i64);
    (first..=last.max(first + 1)).map(|index| index as f64 * step).collect()
}

/// Powers of ten, and values in between where the range is small, from at or below `low` to at or above `high`.
fn decimal_ticks(low: f64, high: f64) -> Vec<f64> {
    const DECADES_WITHOUT_BETWEEN: f64 = 4.0;
    const DECADES_WITH_FEW: f64 = 1.5;
    let decades = (high / low).log10();
    let factors: &[f64] = match decades {
        _ if decades > DECADES_WITHOUT_BETWEEN => &[1.0],
        _ if decades > DECADES_WITH_FEW => &[1.0, 3.0],
        _ => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
    };
    let powers = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let all: Vec<f64> = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power))).collect();
    // Digits of a histogram and of powers differ in the last place.
    let first = all.iter().rposition(|tick| *tick <= low * 1.000_001).unwrap_or_default();
    let last = all.iter().position(|tick| *tick >= high * 0.999_999).unwrap_or(all.len() - 1).max(first + 1);
    all[first..=last.min(all.len() - 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        for (low, high, ticks) in [
            (0.0, 10.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
            (0.0, 0.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (0.0, 61.0, vec![0.0, 20.0, 40.0, 60.0, 80.0]),
            (-1.0, 3.5, vec![-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]),
        ] {
            let found = even_ticks(low, high);
            let close = found.iter().zip(&ticks).all(|(found, right)| (found - right).abs() < 1e-9);
            assert!(close && found.len() == ticks.len(), "{low} to {high}: {found:?}");
        }
        for (low, high) in [(1e-6, 1.0), (0.002, 0.002), (0.00021, 0.0049), (3.0, 3.1), (0.99e-3, 1e3)] {
            let found = decimal_ticks(low, high);
            assert!(
                found[0] <= low * 1.000_001 && found[found.len() - 1] >= high * 0.999_999,
                "{low} to {high}: {found:?}"
            );
            assert!((2..=12).contains(&found.len()), "{low} to {high}: {found:?}");
        }
    }

    #[test]
    fn ninety_and_ninety_nine_percent_are_equally_far_from_each_other() {
        let span = Span::of(Scale::Quantile, [0.0, 0.9999].into_iter()).unwrap();
        let places: Vec<f64> =
            [0.0, 0.9, 0.99, 0.999, 0.9999].iter().map(|value| span.place(*value).unwrap()).collect();
        for (place, right) in places.iter().zip([0.0, 0.25, 0.5, 0.75, 1.0]) {
            assert!((place - right).abs() < 1e-9, "{places:?}");
        }
        assert_eq!(span.place(1.0), None, "nothing lies at 100 %");
    }
}
