//! What each setting may be: text in, the value or "what is allowed" out. Pure.
//!
//! No parser repeats what it was given: the caller does, where it is no secret.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;
use tracing_subscriber::EnvFilter;

use super::secret::Secret;

/// The longest duration that a setting may have.
pub const DURATION_MAX: Duration = Duration::from_hours(24);
/// The most worker threads that may be asked for.
pub const WORKERS_MAX: usize = 1024;
/// The most connections that may be asked for.
pub const CONNECTIONS_MAX: u64 = 100_000_000;
/// The most connections to the database that may be asked for.
pub const DATABASE_CONNECTIONS_MAX: usize = 1000;
/// The most origins that may be listed: each request from a page is compared with them.
pub const ORIGINS_MAX: usize = 64;

const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 512;
const SERVER_BYTES_MAX: usize = 64;
const DURATION_ALLOWED: &str = "a duration up to 24h such as 500ms, 10s or 2m; 0 is none";

/// A duration that may be switched off with `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = parse_duration(text).ok_or(DURATION_ALLOWED)?;
        Ok(Self(Some(duration).filter(|duration| !duration.is_zero())))
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => write!(f, "{duration:?}"),
            None => f.write_str("none"),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON unless standard error is a terminal.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("auto, json or text"),
        }
    }
}

/// What `/health/ready` asks beside the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyRequires {
    /// Nothing else.
    Nothing,
    /// The database.
    Store,
}

impl fmt::Display for ReadyRequires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "none",
            Self::Store => "store",
        })
    }
}

impl FromStr for ReadyRequires {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::Nothing),
            "store" => Ok(Self::Store),
            _ => Err("none or store"),
        }
    }
}

/// Whose pages may call the API from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Only pages of this service.
    None,
    /// Those of any origin.
    Any,
    /// Those of these origins, at least one, each as a browser writes it into `Origin`.
    List(Vec<HeaderValue>),
}

impl fmt::Display for CorsOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Any => f.write_str("*"),
            Self::List(origins) => {
                let texts: Vec<_> = origins.iter().map(|origin| String::from_utf8_lossy(origin.as_bytes())).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl FromStr for CorsOrigins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "*" => return Ok(Self::Any),
            _ => {}
        }
        let refused = |reason: String| {
            format!(
                "none, *, or up to {ORIGINS_MAX} origins with commas between them, each as browsers write it, such as \
                https://app.example.org or http://localhost:5173; {reason}"
            )
        };
        let count = text.split(',').count();
        if count > ORIGINS_MAX {
            return Err(refused(format!("there are {count}")));
        }
        let origins = text.split(',').enumerate().map(|(index, origin)| {
            let which = if count == 1 { "this".to_owned() } else { format!("number {}", index + 1) };
            parse_origin(origin.trim()).map_err(|reason| refused(format!("{which} {reason}")))
        });
        origins.collect::<Result<_, _>>().map(Self::List)
    }
}

/// RFC 6454, section 6.2: scheme, host, and the port where it is not the scheme's own. Browsers compare and send it so,
/// with the host in lower case (WHATWG URL, 3.5), and what differs by a letter would never match.
/// The error says what is wrong with it, as a clause.
fn parse_origin(text: &str) -> Result<HeaderValue, &'static str> {
    match text {
        "" => return Err("is empty"),
        "*" => return Err("is *, which allows all and stands alone"),
        "none" => return Err("is none, which stands alone"),
        "null" => return Err("is null, which any page can be"),
        _ => {}
    }
    let (scheme, authority) = text.split_once("://").ok_or("has no scheme, such as https://")?;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("is not in lower case");
    }
    let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_lowercase())
        && scheme.bytes().all(|byte| is_lower(byte) || b"+-.".contains(&byte));
    if !is_scheme {
        return Err("has a scheme that is none");
    }
    if let Some(end) = authority.find(['/', '?', '#']) {
        return Err(if &authority[end..] == "/" { "ends with a slash" } else { "has a path, a query or a fragment" });
    }
    if authority.contains('@') {
        return Err("has a user before its host");
    }
    check_authority(scheme, authority)?;
    HeaderValue::from_str(text).map_err(|_| "is not what a header field may hold")
}

fn check_authority(scheme: &str, authority: &str) -> Result<(), &'static str> {
    let host_end = match authority.starts_with('[') {
        true => authority.find(']').ok_or("has a [ without a ]")? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) if address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address) => {}
        Some(_) => return Err("has no IPv6 address between [ and ], or not in its shortest form"),
        None if host.is_empty() => return Err("has no host"),
        None if host.contains('*') => return Err("has a * within, and each host must be named"),
        None if !host.is_ascii() => return Err("has a host that is not ASCII; browsers write it as xn--…"),
        None if !host.bytes().all(|byte| is_lower(byte) || b"-._".contains(&byte)) => {
            return Err("has a host with a character that no host has");
        }
        None => {}
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if is_own_port(scheme, port) => Err("has the scheme's own port, which browsers leave out"),
        Some(port) if is_port(port) => Ok(()),
        _ => Err("has a port that is no number from 1 to 65535"),
    }
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_own_port(scheme: &str, port: &str) -> bool {
    matches!((scheme, port), ("http", "80") | ("https", "443"))
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0') && whole_number(port).is_some_and(|port| port <= u64::from(u16::MAX))
}

pub(super) fn parse_host(text: &str) -> Result<IpAddr, &'static str> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an IP address such as 0.0.0.0, 127.0.0.1 or ::, or localhost")
}

pub(super) fn parse_port(text: &str) -> Result<u16, &'static str> {
    const ALLOWED: &str = "a port from 0 to 65535 (0 takes a free one)";
    const KUBERNETES: &str = "a port from 0 to 65535; Kubernetes injects such a value for a Service: \
        set `enableServiceLinks: false` in the pod, or pass --port";
    if text.starts_with("tcp://") || text.starts_with("udp://") {
        return Err(KUBERNETES);
    }
    whole_number(text).and_then(|port| u16::try_from(port).ok()).ok_or(ALLOWED)
}

pub(super) fn parse_workers(text: &str) -> Result<usize, String> {
    parse_count(text, WORKERS_MAX)
}

pub(super) fn parse_database_connections(text: &str) -> Result<usize, String> {
    parse_count(text, DATABASE_CONNECTIONS_MAX)
}

fn parse_count(text: &str, max: usize) -> Result<usize, String> {
    whole_number(text)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| (1..=max).contains(count))
        .ok_or_else(|| format!("a whole number from 1 to {max}"))
}

pub(super) fn parse_connections(text: &str) -> Result<u64, String> {
    whole_number(text)
        .filter(|count| (1..=CONNECTIONS_MAX).contains(count))
        .ok_or_else(|| format!("a whole number from 1 to {CONNECTIONS_MAX}"))
}

/// Digits only: no sign, no spaces.
pub(crate) fn whole_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn parse_rate(text: &str) -> Result<u32, String> {
    whole_number(text)
        .and_then(|rate| u32::try_from(rate).ok())
        .ok_or_else(|| format!("a whole number of bytes a second from 0 (any) to {}", u32::MAX))
}

pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}

/// RFC 6750, section 2.1: `b64token`.
pub(super) fn parse_token(text: &str) -> Result<Secret, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let body = text.trim_end_matches('=');
    let right =
        (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) && !body.is_empty() && body.bytes().all(is_letter);
    right.then(|| Secret::new(text)).ok_or_else(|| {
        format!(
            "{TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters of A-Z a-z 0-9 - . _ ~ + / and, at the end, = \
            (RFC 6750, section 2.1)"
        )
    })
}

/// The text of the field `Server`, if there is to be one.
pub(super) fn parse_server_header(text: &str) -> Result<Option<HeaderValue>, String> {
    if text == "off" {
        return Ok(None);
    }
    let right = (1..=SERVER_BYTES_MAX).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    right.then(|| HeaderValue::from_str(text).ok()).flatten().map(Some).ok_or_else(|| {
        format!("off, or up to {SERVER_BYTES_MAX} visible ASCII characters, with spaces only between them")
    })
}

pub(super) fn parse_log_level(text: &str) -> Result<String, &'static str> {
    const ALLOWED: &str = "error, warn, info, debug, trace, or filter directives such as info,baiwan=debug";
    // A bare word that is no level would be taken as the name of a module, and a typo would silence the log.
    let is_level = |word: &str| word.parse::<tracing::Level>().is_ok() && !word.bytes().all(|b| b.is_ascii_digit());
    let plausible = text.split(',').all(|directive| directive.contains('=') || is_level(directive.trim()));
    if !plausible || EnvFilter::try_new(text).is_err() {
        return Err(ALLOWED);
    }
    Ok(text.to_owned())
}

/// A duration that may not be 0.
pub(crate) fn parse_length(text: &str) -> Result<Duration, &'static str> {
    let duration = parse_duration(text).filter(|duration| !duration.is_zero());
    duration.ok_or("a duration from 1ms to 24h such as 500ms, 10s or 2m")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let duration = baiwan::parse_timeout(text).ok()?.unwrap_or_default();
    (duration <= DURATION_MAX).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_maximum() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("24h"), Some(DURATION_MAX));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10 s", "25h", "10d", "+1s", "99999999999999999999s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
        assert_eq!("0s".parse(), Ok(Timeout(None)));
    }

    #[test]
    fn a_level_that_is_a_typo_is_refused() {
        for right in ["info", "WARN", "info,baiwan=debug", "baiwan_service::store=trace"] {
            assert!(parse_log_level(right).is_ok(), "{right}");
        }
        for wrong in ["verbose", "infoo", "info,debugg", "baiwan=loud", "3"] {
            assert!(parse_log_level(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_addresses() {
        assert_eq!(parse_host("::"), Ok("::".parse().unwrap()));
        assert_eq!(parse_host("[::1]"), Ok("::1".parse().unwrap()));
        assert_eq!(parse_host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert!(parse_host("example.org").is_err());
    }

    #[test]
    fn origins_are_as_browsers_write_them() {
        let list = |texts: &[&'static str]| {
            let values = texts.iter().map(|text| HeaderValue::from_static(text));
            CorsOrigins::List(values.collect())
        };
        assert_eq!("none".parse(), Ok(CorsOrigins::None));
        assert_eq!("*".parse(), Ok(CorsOrigins::Any));
        for right in [
            "https://app.example.org",
            "http://localhost:5173",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://[2001:db8::1]",
            "https://xn--bcher-kva.example",
            "http://my_host:443",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(right.parse(), Ok(list(&[right])), "{right}");
        }
        assert_eq!("https://a.org, http://b.org:81".parse(), Ok(list(&["https://a.org", "http://b.org:81"])));
        for (wrong, reason) in [
            ("", "this is empty"),
            ("null", "this is null"),
            ("app.example.org", "this has no scheme"),
            ("https://", "no host"),
            ("https://:81", "no host"),
            ("https://app.example.org/", "ends with a slash"),
            ("https://app.example.org/path", "a path"),
            ("https://app.example.org?a", "a query"),
            ("https://app.example.org#a", "a fragment"),
            ("https://ada:secret@app.example.org", "a user before its host"),
            ("https://App.example.org", "not in lower case"),
            ("HTTPS://app.example.org", "not in lower case"),
            ("https://bücher.example", "not ASCII"),
            ("https://*.example.org", "a * within"),
            ("https://app.example.org:443", "the scheme's own port"),
            ("http://localhost:80", "the scheme's own port"),
            ("http://localhost:", "a port that is no number"),
            ("http://localhost:0", "a port that is no number"),
            ("http://localhost:081", "a port that is no number"),
            ("http://localhost:65536", "a port that is no number"),
            ("http://localhost:8a", "a port that is no number"),
            ("http://[::1", "a [ without a ]"),
            ("http://[::1]8080", "a port that is no number"),
            ("http://[0::1]", "not in its shortest form"),
            ("http://[nowhere]", "no IPv6 address"),
            ("1http://localhost", "a scheme that is none"),
            ("https://a.org,", "number 2 is empty"),
            ("https://a.org,*", "number 2 is *, which"),
            ("none,https://a.org", "number 1 is none, which"),
            ("https://a.org,https://b.org/", "number 2 ends with a slash"),
            ("https://a.org https://b.org", "a path"),
            ("https://a b", "a character that no host has"),
        ] {
            let allowed = wrong.parse::<CorsOrigins>().expect_err(wrong);
            assert!(allowed.contains(reason) && !allowed.contains("secret"), "{wrong:?}: {allowed}");
        }
        for text in ["none", "*", "https://a.org,http://b.org:81"] {
            assert_eq!(text.parse::<CorsOrigins>().unwrap().to_string(), text);
        }
        let many = |count: usize| vec!["https://a.org"; count].join(",").parse::<CorsOrigins>();
        assert!(many(ORIGINS_MAX).is_ok() && many(ORIGINS_MAX + 1).is_err());
    }

    #[test]
    fn tokens_are_long_and_fit_into_a_field() {
        for right in ["0123456789abcdef", "AZaz09-._~+/AZaz==", &"a".repeat(512)] {
            assert!(parse_token(right).is_ok_and(|token| token.matches(right.as_bytes())), "{right}");
        }
        for wrong in
            ["", "0123456789abcde", &"a".repeat(513), "0123456789=abcdef", "0123456789 abcdef", "0123456789abcdef\n"]
        {
            assert!(parse_token(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_token(&"=".repeat(16)).is_err() && parse_token("0123456789abcdeé").is_err());
        assert!(!parse_token("secret").is_err_and(|allowed| allowed.contains("secret")));
    }

    #[test]
    fn the_server_field_is_one_line_of_ascii() {
        assert_eq!(parse_server_header("off"), Ok(None));
        for right in ["baiwan", "baiwan/1.0 (demo)", &"a".repeat(64)] {
            assert_eq!(parse_server_header(right), Ok(Some(HeaderValue::from_str(right).unwrap())));
        }
        for wrong in ["", " ", "a ", " a", "a\tb", "a\r\nx: y", "百万", &"a".repeat(65)] {
            assert!(parse_server_header(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_ready_requires_is_a_word() {
        assert_eq!("none".parse(), Ok(ReadyRequires::Nothing));
        assert_eq!("store".parse(), Ok(ReadyRequires::Store));
        assert!("database".parse::<ReadyRequires>().is_err());
        for text in ["none", "store"] {
            assert_eq!(text.parse::<ReadyRequires>().unwrap().to_string(), text);
        }
    }
}
