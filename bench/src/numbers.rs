//! How numbers are written in the report. Pure.

use crate::summary::{Ratio, Summary};

/// In the place of a figure that a row does not have.
pub(crate) const NONE: &str = "-";

/// A number with commas between thousands.
pub(crate) fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", &text[..]), |text| ("-", text));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::from(sign);
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// The median, with the least and the most.
pub(crate) fn spread(summary: Summary, digits: usize) -> String {
    let [median, min, max] = [summary.median, summary.min, summary.max].map(|value| grouped(value, digits));
    format!("{median} ({min} to {max})")
}

pub(crate) fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(|| NONE.to_owned(), Ratio::text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.4, 0), "999");
        assert_eq!(grouped(-12_345.678, 2), "-12,345.68");
        assert_eq!(grouped(0.5, 2), "0.50");
    }
}
