//! Figures as people read them: three digits that matter, and a unit that fits.

/// A time, from nanoseconds to seconds: `412 µs`.
pub fn time(seconds: f64) -> String {
    let ns = seconds * 1e9;
    // What would be rounded to a thousand of one unit is one of the next.
    match ns.abs() {
        0.0 => "0".to_owned(),
        size if size < 999.5 => format!("{} ns", three_digits(ns)),
        size if size < 999.5e3 => format!("{} µs", three_digits(ns / 1e3)),
        size if size < 999.5e6 => format!("{} ms", three_digits(ns / 1e6)),
        _ => format!("{} s", three_digits(ns / 1e9)),
    }
}

/// How long something lasted: as a [`time`], and in minutes and hours where those say more.
pub fn span(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => time(seconds),
        120..7200 if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A size: `19.1 KiB`.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes;
    let mut unit = 0;
    while size.abs() >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(size), UNITS[unit])
}

/// A count, with a comma for each thousand: `1,000,000`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that need not be whole, such as a rate: `12,346`, `12.3`.
pub fn number(value: f64) -> String {
    if value.abs() >= 999.5 && value.is_finite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(value.abs().round() as u64));
    }
    three_digits(value)
}

/// A number in as few letters as an axis has room for: `50k`, `1.2M`.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size < 999.5 => three_digits(value),
        size if size < 999.5e3 => format!("{}k", three_digits(value / 1e3)),
        size if size < 999.5e6 => format!("{}M", three_digits(value / 1e6)),
        _ => format!("{}G", three_digits(value / 1e9)),
    }
}

/// A share of 1 in percent: `0.1 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

/// Whole from a hundred on, else with up to three digits, without zeros at the end.
fn three_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "none".to_owned() };
    }
    let before_point = value.abs().log10().floor() as i32 + 1;
    let decimals = (3 - before_point).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        for (seconds, text) in [
            (0.0, "0"),
            (0.000_000_5, "500 ns"),
            (0.000_412_3, "412 µs"),
            (0.000_999_7, "1 ms"),
            (0.001_234, "1.23 ms"),
            (0.05, "50 ms"),
            (0.9996, "1 s"),
            (12.34, "12.3 s"),
            (3600.0, "3600 s"),
        ] {
            assert_eq!(time(seconds), text);
        }
        for (seconds, text) in
            [(10.0, "10 s"), (119.0, "119 s"), (300.0, "5 min"), (301.2, "5 min 1 s"), (7260.0, "2 h 1 min")]
        {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn sizes_counts_and_shares_are_readable() {
        for (size, text) in [(61.0, "61 B"), (1023.9, "1 KiB"), (19_588.0, "19.1 KiB"), (6.3e9, "5.87 GiB")] {
            assert_eq!(bytes(size), text);
        }
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_000_000, "1,000,000")] {
            assert_eq!(count(value), text);
        }
        for (value, text) in [(0.0, "0"), (12.345, "12.3"), (999.7, "1,000"), (12_345.6, "12,346"), (-5000.2, "-5,000")]
        {
            assert_eq!(number(value), text);
        }
        for (value, text) in [(0.5, "0.5"), (50_000.0, "50k"), (1_200_000.0, "1.2M")] {
            assert_eq!(short(value), text);
        }
        assert_eq!([percent(0.001), percent(0.0), percent(1.0)], ["0.1 %", "0 %", "100 %"]);
    }
}
