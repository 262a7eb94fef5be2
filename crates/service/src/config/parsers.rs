//! What each setting may be: text in, the value or "what is allowed" out. Pure.
//!
//! No parser repeats what it was given: the caller does, where it is no secret.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use baiwan::settings::{OFF, is_off, whole_number};
use baiwan::{RefusalCors, Secret, TOKEN_FORM};
use http::HeaderValue;
use tracing_subscriber::filter::Targets;

/// The most connections to the database that may be asked for.
pub const DATABASE_CONNECTIONS_MAX: usize = 1000;
/// The most origins that may be listed: each request from a page is compared with them.
pub const ORIGINS_MAX: usize = 64;

const SERVER_BYTES_MAX: usize = 64;

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

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Auto, Self::Json, Self::Text];
        all.into_iter().find(|format| format.to_string() == text).ok_or("auto, json or text")
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
            Self::Nothing => OFF,
            Self::Store => "store",
        })
    }
}

impl FromStr for ReadyRequires {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "store" => Ok(Self::Store),
            _ if is_off(text) => Ok(Self::Nothing),
            _ => Err("off or store"),
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

impl CorsOrigins {
    /// The same for what the server answers by itself.
    pub(crate) fn for_refusals(&self) -> RefusalCors {
        match self {
            Self::None => RefusalCors::Off,
            Self::Any => RefusalCors::Any,
            Self::List(origins) => RefusalCors::Origins(origins.clone()),
        }
    }
}

impl fmt::Display for CorsOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(OFF),
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
            _ if is_off(text) => return Ok(Self::None),
            "*" => return Ok(Self::Any),
            _ => {}
        }
        let refused = |reason: String| {
            format!(
                "off, *, or up to {ORIGINS_MAX} origins with commas between them, each as browsers write it, such as \
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
        _ if is_off(text) => return Err("is off, which stands alone"),
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

/// As the library takes it.
pub(super) fn parse_token(text: &str) -> Result<Secret, String> {
    Secret::of_token(text).ok_or_else(|| TOKEN_FORM.to_owned())
}

/// The text of the field `Server`, if there is to be one.
pub(super) fn parse_server_header(text: &str) -> Result<Option<HeaderValue>, String> {
    if is_off(text) {
        return Ok(None);
    }
    let right = (1..=SERVER_BYTES_MAX).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    right.then(|| HeaderValue::from_str(text).ok()).flatten().map(Some).ok_or_else(|| {
        format!("off, or up to {SERVER_BYTES_MAX} visible ASCII characters, with spaces only between them")
    })
}

pub(crate) fn parse_log_level(text: &str) -> Result<String, &'static str> {
    const ALLOWED: &str = "error, warn, info, debug, trace, or filter directives such as info,baiwan=debug";
    // A bare word that is no level would be taken as the name of a module, and a typo would silence the log.
    let is_level = |word: &str| word.parse::<tracing::Level>().is_ok() && !word.bytes().all(|b| b.is_ascii_digit());
    let plausible = text.split(',').all(|directive| directive.contains('=') || is_level(directive.trim()));
    if !plausible || text.parse::<Targets>().is_err() {
        return Err(ALLOWED);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn origins_are_as_browsers_write_them() {
        let list = |texts: &[&'static str]| {
            let values = texts.iter().map(|text| HeaderValue::from_static(text));
            CorsOrigins::List(values.collect())
        };
        for off in ["off", "none", "0"] {
            assert_eq!(off.parse(), Ok(CorsOrigins::None));
        }
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
            ("off,https://a.org", "number 1 is off, which"),
            ("https://a.org,https://b.org/", "number 2 ends with a slash"),
            ("https://a.org https://b.org", "a path"),
            ("https://a b", "a character that no host has"),
        ] {
            let allowed = wrong.parse::<CorsOrigins>().expect_err(wrong);
            assert!(allowed.contains(reason) && !allowed.contains("secret"), "{wrong:?}: {allowed}");
        }
        for text in ["off", "*", "https://a.org,http://b.org:81"] {
            assert_eq!(text.parse::<CorsOrigins>().unwrap().to_string(), text);
        }
        let many = |count: usize| vec!["https://a.org"; count].join(",").parse::<CorsOrigins>();
        assert!(many(ORIGINS_MAX).is_ok() && many(ORIGINS_MAX + 1).is_err());
    }

    #[test]
    fn a_wrong_token_is_not_said_again() {
        assert!(parse_token("0123456789abcdef").is_ok());
        assert!(parse_token("secret").is_err_and(|allowed| !allowed.contains("secret")));
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
        for off in ["off", "none", "0"] {
            assert_eq!(off.parse(), Ok(ReadyRequires::Nothing));
            assert_eq!(parse_server_header(off), Ok(None));
        }
        assert_eq!("store".parse(), Ok(ReadyRequires::Store));
        assert!("database".parse::<ReadyRequires>().is_err());
        for text in ["off", "store"] {
            assert_eq!(text.parse::<ReadyRequires>().unwrap().to_string(), text);
        }
    }
}
