//! The median of ratios and how far they spread. Pure.

use serde::Serialize;

/// The middle of several values, and the middle half of them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Quartiles {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

impl Quartiles {
    /// Of at least one value. A quartile between two values is interpolated (definition 7 of Hyndman and Fan, "Sample quantiles in
    /// statistical packages", 1996).
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self { low: at(0.25), median: at(0.5), high: at(0.75) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quartile_between_two_values_is_interpolated() {
        let quartiles = |values: &[f64]| Quartiles::of(values.iter().copied());
        assert_eq!(quartiles(&[5.0, 1.0, 2.0, 4.0, 3.0]), Some(Quartiles { low: 2.0, median: 3.0, high: 4.0 }));
        assert_eq!(quartiles(&[4.0, 1.0, 2.0, 3.0]), Some(Quartiles { low: 1.75, median: 2.5, high: 3.25 }));
        assert_eq!(quartiles(&[7.0]), Some(Quartiles { low: 7.0, median: 7.0, high: 7.0 }));
        assert_eq!(quartiles(&[]), None);
    }
}
