//! How values are written: text in, the value or "what is allowed" out, and back. Pure.
//!
//! No parser repeats what it was given: the caller does, where it is no secret.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use baiwan_http1::{FIELDS_CEILING, HEAD_BYTES_CEILING};
use baiwan_limits::{NETWORKS_MAX, Proxies, ProxiesError};
use http::HeaderName;

use super::setting::quoted;
use crate::access_log::Destination;

/// The longest duration that a setting may have.
pub const DURATION_MAX: Duration = Duration::from_hours(24);
/// The most worker threads that may be asked for.
pub const WORKERS_MAX: u64 = 1024;
/// The most connections that may be asked for.
pub const CONNECTIONS_MAX: u64 = 100_000_000;
/// What a limit on the bytes of heads may be: whatever the decoder can represent, and room for a request line and a Host field.
pub(crate) const HEAD_LIMITS: RangeInclusive<usize> = 256..=HEAD_BYTES_CEILING;
/// What a limit on the bytes of targets may be. The head, which the target is part of, is limited too.
pub(crate) const TARGET_LIMITS: RangeInclusive<usize> = 1..=HEAD_BYTES_CEILING;
/// What a limit on the field lines of heads may be. HTTP/1.1 needs one, Host.
pub(crate) const FIELDS_LIMITS: RangeInclusive<usize> = 1..=FIELDS_CEILING;

/// What is shown of a setting that is off.
pub const OFF: &str = "off";

/// Whether `text` switches off what can be off.
pub fn is_off(text: &str) -> bool {
    [OFF, "0", "none"].contains(&text)
}

/// Parses a timeout: a whole number and its unit, `500ms`, `10s`, `2m` or `1h`, and 24 hours at most; `off`, `none` or `0` is
/// none.
///
/// # Errors
/// Says what is allowed.
///
/// # Example
/// ```
/// # use std::time::Duration;
/// assert_eq!(baiwan::parse_timeout("90s"), Ok(Some(Duration::from_secs(90))));
/// assert_eq!(baiwan::parse_timeout("off"), Ok(None));
/// assert!(baiwan::parse_timeout("10").is_err());
/// ```
pub fn parse_timeout(text: &str) -> Result<Option<Duration>, &'static str> {
    if is_off(text) {
        return Ok(None);
    }
    let duration = duration(text).ok_or("a duration up to 24h such as 500ms, 10s or 2m; or off")?;
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

/// Parses a duration that may not be 0. The error says what is allowed.
pub fn parse_length(text: &str) -> Result<Duration, &'static str> {
    let duration = duration(text).filter(|duration| !duration.is_zero());
    duration.ok_or("a duration from 1ms to 24h such as 500ms, 10s or 2m")
}

/// Parses a duration that may be 0, and is not off then. The error says what is allowed.
pub(super) fn parse_span(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("a duration from 0 to 24h such as 500ms, 10s or 2m")
}

/// What is shown of a grace that ends with the stop.
const REST: &str = "rest";

/// Parses a grace: a duration that may be 0, or `rest` for what is left. The error says what is allowed.
pub(super) fn parse_grace(text: &str) -> Result<Option<Duration>, &'static str> {
    match text {
        REST => Ok(None),
        _ => duration(text).map(Some).ok_or("a duration from 0 to 24h such as 500ms, 10s or 2m; or rest"),
    }
}

pub(super) fn shown_grace(grace: Option<Duration>) -> String {
    grace.map_or_else(|| REST.to_owned(), shown_span)
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(milliseconds)?);
    (duration <= DURATION_MAX).then_some(duration)
}

/// A duration as it would be written, in the largest unit that it is a multiple of.
pub(super) fn shown_span(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = |(length, _): &(u128, &str)| milliseconds >= *length && milliseconds.is_multiple_of(*length);
    match units.into_iter().find(fits) {
        Some((length, unit)) => format!("{}{unit}", milliseconds / length),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

pub(super) fn shown_timeout(timeout: Option<Duration>) -> String {
    timeout.map_or_else(|| OFF.to_owned(), shown_span)
}

/// Parses a list of proxies, or `off` for none. The error says what is allowed, and which item is not.
pub(super) fn parse_proxies(text: &str) -> Result<Proxies, String> {
    if is_off(text) {
        return Ok(Proxies::default());
    }
    let wrong = |error| match error {
        ProxiesError::Item(item) => format!("; {} is none of them", quoted(&item)),
        _ => String::new(),
    };
    text.parse().map_err(|error| {
        let allowed = "networks such as 10.0.0.0/8, addresses, and unix, separated by commas; or off";
        format!("a list of up to {NETWORKS_MAX} {allowed}{}", wrong(error))
    })
}

pub(super) fn shown_proxies(proxies: &Proxies) -> String {
    match proxies.is_empty() {
        true => OFF.to_owned(),
        false => proxies.to_string(),
    }
}

/// Parses the name of a field (RFC 9110, section 5.1), or `off` for none. The error says what is allowed.
pub(super) fn parse_field_name(text: &str) -> Result<Option<HeaderName>, String> {
    match is_off(text) {
        true => Ok(None),
        false => text.parse().map(Some).map_err(|_| "the name of a field such as X-Real-IP; or off".to_owned()),
    }
}

/// Digits only: no sign, no spaces.
pub fn whole_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Parses a whole number from 1 to `max`. The error says what is allowed.
pub fn parse_count(text: &str, max: u64) -> Result<u64, String> {
    let count = whole_number(text).filter(|count| (1..=max).contains(count));
    count.ok_or_else(|| format!("a whole number from 1 to {max}"))
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Parses a size within `allowed`: a whole number of bytes, or of `KiB` or `MiB`. The error says what is allowed.
pub(super) fn parse_size(text: &str, allowed: &RangeInclusive<usize>) -> Result<usize, String> {
    size(text).filter(|bytes| allowed.contains(bytes)).ok_or_else(|| {
        let (min, max) = (allowed.start(), shown_size(*allowed.end()));
        format!("a size such as 8KiB, or a whole number of bytes, from {min} to {max}")
    })
}

fn size(text: &str) -> Option<usize> {
    let units = [("KiB", KIB), ("MiB", MIB)];
    let in_unit = units.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (number, bytes) = in_unit.unwrap_or((text, 1));
    usize::try_from(whole_number(number)?).ok()?.checked_mul(bytes)
}

/// A size as it would be written, in the largest unit that it is a multiple of.
pub(super) fn shown_size(bytes: usize) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        _ if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => bytes.to_string(),
    }
}

/// The value nearest to `value` that is allowed.
pub(crate) fn nearest(value: usize, allowed: &RangeInclusive<usize>) -> usize {
    value.clamp(*allowed.start(), *allowed.end())
}

/// Parses the address to listen on. The error says what is allowed.
///
/// # Errors
/// When it is no IP address, and not `localhost`.
pub fn parse_host(text: &str) -> Result<IpAddr, &'static str> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an IP address such as 0.0.0.0, 127.0.0.1 or ::, or localhost")
}

/// Parses a TCP port. The error says what is allowed.
///
/// # Errors
/// When it is none.
pub fn parse_port(text: &str) -> Result<u16, &'static str> {
    const ALLOWED: &str = "a port from 0 to 65535 (0 takes a free one)";
    const KUBERNETES: &str = "a port from 0 to 65535; Kubernetes injects such a value for a Service: \
        set `enableServiceLinks: false` in the pod";
    if text.starts_with("tcp://") || text.starts_with("udp://") {
        return Err(KUBERNETES);
    }
    whole_number(text).and_then(|port| u16::try_from(port).ok()).ok_or(ALLOWED)
}

/// Parses a maximum that can be off. The error says what is allowed.
pub(super) fn parse_maximum(text: &str, max: u32) -> Result<Option<NonZeroU32>, String> {
    if is_off(text) {
        return Ok(None);
    }
    let count = whole_number(text).and_then(|count| NonZeroU32::new(u32::try_from(count).ok()?));
    let count = count.filter(|count| count.get() <= max);
    count.map(Some).ok_or_else(|| format!("a whole number from 1 to {max}; or off"))
}

pub(super) fn shown_maximum(maximum: Option<NonZeroU32>) -> String {
    maximum.map_or_else(|| OFF.to_owned(), |count| count.to_string())
}

pub(super) fn parse_rate(text: &str) -> Result<u32, String> {
    if is_off(text) {
        return Ok(0);
    }
    let rate = whole_number(text).and_then(|rate| u32::try_from(rate).ok());
    rate.ok_or_else(|| format!("a whole number of bytes a second up to {}; or off", u32::MAX))
}

pub(super) fn shown_rate(bytes_per_second: u32) -> String {
    match bytes_per_second {
        0 => OFF.to_owned(),
        rate => rate.to_string(),
    }
}

pub(super) fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        _ if is_off(text) => Ok(false),
        _ => Err("on or off"),
    }
}

/// Lines a second that nobody writes more of.
const LINES_MAX: u64 = 1_000_000_000;

pub(super) fn parse_lines(text: &str) -> Result<Option<u64>, String> {
    if is_off(text) {
        return Ok(None);
    }
    parse_count(text, LINES_MAX).map(Some).map_err(|allowed| format!("{allowed}; or off"))
}

/// A word that is no path is rather a mistake than a file.
pub(super) fn parse_destination(text: &str) -> Result<Destination, &'static str> {
    match text {
        "on" => Ok(Destination::Stdout),
        _ if is_off(text) => Ok(Destination::Nowhere),
        _ if text.contains('/') && !text.ends_with('/') => Ok(Destination::File(text.into())),
        _ => Err("on, off, or the path of a file, with a / in it"),
    }
}

pub(super) fn shown_destination(destination: &Destination) -> String {
    match destination {
        Destination::Nowhere => OFF.to_owned(),
        Destination::Stdout => "on".to_owned(),
        Destination::File(path) => path.display().to_string(),
    }
}

/// Bytes of the path of a Unix socket (unix(7), `sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The path of a Unix socket, or none.
pub(super) fn parse_socket_path(text: &str) -> Result<Option<PathBuf>, &'static str> {
    match text {
        _ if is_off(text) => Ok(None),
        _ if text.contains('/') && !text.ends_with('/') && text.len() <= SOCKET_PATH_BYTES_MAX => Ok(Some(text.into())),
        _ => Err("off, or the path of a Unix socket: with a / in it, and of at most 107 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_maximum() {
        for (text, milliseconds) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("24h", 86_400_000), ("0", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "10", "s", "-1s", "+1s", "1.5s", "10 s", "10s ", "1d", "25h", "99999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
        assert!(parse_length("0s").is_err() && parse_span("0s").is_ok());
        assert_eq!((parse_grace("0"), parse_grace("rest")), (Ok(Some(Duration::ZERO)), Ok(None)));
        assert!(parse_grace("off").is_err(), "off could be either");
    }

    #[test]
    fn what_can_be_off_is_off_by_each_of_its_words() {
        for off in ["off", "none", "0"] {
            assert_eq!(parse_timeout(off), Ok(None));
            assert_eq!(parse_rate(off), Ok(0));
            assert_eq!(parse_maximum(off, 10), Ok(None));
            assert_eq!(parse_switch(off), Ok(false));
            assert!(off == "0" || parse_span(off).is_err(), "a span of 0 is a value");
        }
        assert_eq!(parse_maximum("10", 10), Ok(NonZeroU32::new(10)));
        assert_eq!(parse_maximum("11", 10), Err("a whole number from 1 to 10; or off".to_owned()));
        assert_eq!(parse_timeout("0ms"), Ok(None));
        assert!(parse_timeout("OFF").is_err());
    }

    #[test]
    fn a_duration_is_shown_as_it_could_be_written() {
        for text in ["0s", "1ms", "1500ms", "75s", "2m", "90m", "24h"] {
            assert_eq!(shown_span(duration(text).unwrap()), text);
        }
        assert_eq!(shown_span(Duration::from_secs(3600)), "1h");
        assert_eq!(shown_timeout(None), "off");
    }

    #[test]
    fn sizes_have_units_and_a_range() {
        let sizes = [("0", 0), ("300", 300), ("8KiB", 8192), ("16KiB", 16_384), ("2MiB", 2_097_152), ("1024", 1024)];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size(&shown_size(bytes)), Some(bytes), "{text}");
        }
        for wrong in
            ["", "KiB", "16K", "16KB", "16kib", "16 KiB", " 16KiB", "16KiB ", "+1", "-1", "1.5KiB", "1e3", "0x10"]
        {
            assert_eq!(size(wrong), None, "{wrong:?}");
        }
        assert_eq!(size("99999999999999999999"), None);
        assert_eq!(size("99999999999999999MiB"), None, "more bytes than can be counted");
        assert_eq!(parse_size("256", &HEAD_LIMITS), Ok(256));
        assert_eq!(parse_size("64KiB", &HEAD_LIMITS), Ok(65_536));
        let allowed = "a size such as 8KiB, or a whole number of bytes, from 256 to 64KiB";
        for wrong in ["255", "65537", "65KiB", "1MiB", "off"] {
            assert_eq!(parse_size(wrong, &HEAD_LIMITS), Err(allowed.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_shown_in_its_largest_unit() {
        for text in ["0", "1", "1023", "1KiB", "1025", "1023KiB", "1MiB", "2097153", "64KiB"] {
            assert_eq!(shown_size(size(text).unwrap()), text);
        }
        assert_eq!(shown_size(2048 * 1024), "2MiB");
    }

    #[test]
    fn a_list_of_proxies_is_off_or_names_what_is_wrong_in_it() {
        assert_eq!(shown_proxies(&parse_proxies("10.0.0.0/8, ::1,unix").unwrap()), "10.0.0.0/8,::1,unix");
        assert_eq!(shown_proxies(&parse_proxies("none").unwrap()), "off");
        let allowed = parse_proxies("10.0.0.0/8,10.0.0.0/33").unwrap_err();
        assert!(
            allowed.starts_with("a list of up to 256 networks such as 10.0.0.0/8, addresses, and unix"),
            "{allowed}"
        );
        assert!(allowed.ends_with("; or off; \"10.0.0.0/33\" is none of them"), "{allowed}");
        let long = parse_proxies(&"x".repeat(10_000)).unwrap_err();
        assert!(long.len() < 400, "{long}");
        assert!(parse_proxies(&vec!["::1"; NETWORKS_MAX + 1].join(",")).unwrap_err().ends_with("; or off"));
    }

    #[test]
    fn a_field_has_a_name() {
        assert_eq!(parse_field_name("X-Real-IP"), Ok(Some(HeaderName::from_static("x-real-ip"))));
        assert_eq!(parse_field_name("off"), Ok(None));
        assert!(parse_field_name("X Real IP").is_err() && parse_field_name("").is_err());
    }

    #[test]
    fn hosts_are_addresses() {
        assert_eq!(parse_host("::"), Ok("::".parse().unwrap()));
        assert_eq!(parse_host("[::1]"), Ok("::1".parse().unwrap()));
        assert_eq!(parse_host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert!(parse_host("example.org").is_err());
    }
}
