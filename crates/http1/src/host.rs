//! `uri-host [ ":" port ]`, the value of Host and the authority of a target (RFC 9110 7.2, RFC 3986 3.2).
//!
//! This splits and validates; it resolves nothing. A user name, a path, a list and an empty host are not valid. A
//! literal in brackets is an IPv6 address without a zone, or of a version that is yet to come (IPvFuture, RFC 3986 3.2.2).

use std::net::Ipv6Addr;

use crate::octet;

/// A valid host and its port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPort<'a> {
    /// A registered name, an IPv4 address, or a literal in brackets. Never empty.
    pub(crate) host: &'a [u8],
    /// None where there is no colon or no digit after it, which RFC 3986 3.2.3 allows.
    pub(crate) port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// Splits and validates; None where `value` is not `uri-host [ ":" port ]`.
    #[inline]
    pub(crate) fn parse(value: &'a [u8]) -> Option<HostPort<'a>> {
        let end = value.iter().position(|&byte| !octet::is(byte, octet::REG_NAME)).unwrap_or(value.len());
        let (host, rest) = match value.get(end) {
            None | Some(b':') if end > 0 => value.split_at(end),
            Some(b'[') if end == 0 => {
                let end = memchr::memchr(b']', value)?;
                let literal = &value[1..end];
                (is_ipv6(literal) || is_ip_future(literal)).then(|| value.split_at(end + 1))?
            }
            _ => {
                let end = memchr::memchr(b':', value).unwrap_or(value.len());
                is_encoded_name(&value[..end]).then(|| value.split_at(end))?
            }
        };
        match rest {
            [] => Some(HostPort { host, port: None }),
            [b':', digits @ ..] => Some(HostPort { host, port: parse_port(digits)? }),
            _ => None,
        }
    }

    /// Whether both name the same origin server, given the port that a missing one stands for.
    pub(crate) fn is_same(&self, other: &HostPort<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn is_ipv6(literal: &[u8]) -> bool {
    str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`, without a comma, as in a name.
fn is_ip_future(literal: &[u8]) -> bool {
    let Some(dot) = memchr::memchr(b'.', literal) else { return false };
    let [b'v' | b'V', version @ ..] = &literal[..dot] else { return false };
    let address = &literal[dot + 1..];
    let is_of_address = |&byte: &u8| byte == b':' || octet::is(byte, octet::REG_NAME);
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address.iter().all(is_of_address)
}

/// A registered name that may have percent-encoding.
fn is_encoded_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return !name.is_empty(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if octet::is(*byte, octet::REG_NAME) => rest,
            _ => return false,
        }
    }
}

/// The outer None is an invalid port, the inner one an empty port.
fn parse_port(digits: &[u8]) -> Option<Option<u16>> {
    if digits.is_empty() {
        return Some(None);
    }
    let mut port: u16 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        port = port.checked_mul(10)?.checked_add(u16::from(digit - b'0'))?;
    }
    Some(Some(port))
}
