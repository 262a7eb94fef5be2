//! Statistics of a few numbers. Pure.

/// The middle of several rounds, and how far they spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Self { median, min, max })
    }
}

/// How many times another's figure a figure is, each pair measured side by side.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ratio(Summary);

impl Ratio {
    /// Of at least one pair: a figure, and what it is compared with.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let ratios = pairs.into_iter().map(|(figure, reference)| figure / reference).filter(|ratio| ratio.is_finite());
        Summary::of(ratios).map(Self)
    }

    /// Not every pair says the same about who has more.
    pub(crate) fn is_equal(self) -> bool {
        self.0.min <= 1.0 && self.0.max >= 1.0
    }

    /// The median, or that there is no telling, with the least and the most.
    pub(crate) fn text(self) -> String {
        let [median, min, max] = [self.0.median, self.0.min, self.0.max].map(digits);
        let median = if self.is_equal() { "equal" } else { &median };
        format!("{median} ({min} to {max})")
    }
}

/// As many as say something.
fn digits(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}") } else { format!("{ratio:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() {
        // Medians alone would say 1.5: the machine was slow in another pair for each.
        let ratio = Ratio::of([(2.0, 1.0), (3.0, 2.0), (9.0, 8.0)]).unwrap();
        assert_eq!((ratio.0.median, ratio.text()), (1.5, "1.50 (1.12 to 2.00)".to_owned()));
        let ratio = Ratio::of([(2.2, 2.0), (44.0, 40.0), (5.5, 5.0)]).unwrap();
        assert_eq!(ratio.text(), "1.10 (1.10 to 1.10)");
        assert_eq!(Ratio::of([]), None);
        assert_eq!(Ratio::of([(1.0, 0.0)]), None);
    }

    #[test]
    fn what_is_more_in_one_pair_and_less_in_another_is_equal() {
        for (pairs, equal) in [
            ([(0.98, 1.0), (1.05, 1.0), (1.04, 1.0)], true),
            ([(1.0, 1.0), (1.05, 1.0), (1.04, 1.0)], true),
            ([(1.01, 1.0), (1.05, 1.0), (1.04, 1.0)], false),
            ([(0.99, 1.0), (0.5, 1.0), (0.7, 1.0)], false),
        ] {
            let ratio = Ratio::of(pairs).unwrap();
            assert_eq!(ratio.is_equal(), equal, "{}", ratio.text());
            assert_eq!(ratio.text().starts_with("equal ("), equal);
        }
    }

    #[test]
    fn large_ratios_have_no_digits_after_the_point() {
        assert_eq!(Ratio::of([(354.2, 1.0), (353.9, 1.0)]).unwrap().text(), "354 (354 to 354)");
    }

    #[test]
    fn a_summary_has_the_middle_and_both_ends() {
        let summary = Summary::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Summary::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of([]), None);
    }
}
