//! Addresses in the fields that proxies write: `X-Forwarded-For`, `Forwarded` (RFC 7239), and fields of one address.
//!
//! The right-most element is what the last proxy has added, so a list is read from its right end, and what stands further left can
//! change nothing of what was read: a quote that a client has opened ends at the comma that a proxy writes behind it. This is *not* a
//! general parser of `Forwarded`: of an element only `for` is wanted, and an element is refused at the first doubt.
//!
//! The invariant: of a list, at most [`ELEMENTS_MAX`] elements of [`ELEMENT_BYTES_MAX`] bytes are looked at, however long it is.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderValue;

/// Elements of a list that are read, empty ones included; what is left of them is not. Real chains have less than ten.
pub(crate) const ELEMENTS_MAX: usize = 32;

/// Bytes of an element. The longest that means something has an address, a host (255 bytes) and two more parameters.
pub(crate) const ELEMENT_BYTES_MAX: usize = 1024;

/// How a list is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Syntax {
    /// Addresses, separated by commas.
    XForwardedFor,
    /// RFC 7239, section 4.
    Forwarded,
}

/// Something stands in a field that is no address: it is malformed, `unknown`, obfuscated, or too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoAddress;

/// The addresses of a list, from right to left, over all of its field lines. The first `Err` is where a reader must stop.
pub(crate) fn addresses_from_right<'a>(
    syntax: Syntax,
    lines: impl DoubleEndedIterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = Result<IpAddr, NoAddress>> {
    lines
        .rev()
        .flat_map(move |line| Elements { rest: Some(line.as_bytes()), syntax })
        .take(ELEMENTS_MAX)
        // A list may have empty elements (RFC 9110, section 5.6.1.2).
        .filter(|element| !matches!(element, Ok([])))
        .map(move |element| match syntax {
            Syntax::XForwardedFor => parse_node(element?),
            Syntax::Forwarded => parse_forwarded(element?),
        })
}

/// The elements of a field line, from right to left, without the white space around them.
struct Elements<'a> {
    /// What is left of the elements that were given; None when there is no more.
    rest: Option<&'a [u8]>,
    syntax: Syntax,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], NoAddress>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let mut quoted = false;
        for (count, (at, byte)) in rest.iter().enumerate().rev().enumerate() {
            match byte {
                b',' if !quoted => {
                    self.rest = Some(&rest[..at]);
                    return Some(Ok(rest[at + 1..].trim_ascii()));
                }
                b'"' if self.syntax == Syntax::Forwarded => quoted = !quoted,
                _ => {}
            }
            if count >= ELEMENT_BYTES_MAX {
                return Some(Err(NoAddress));
            }
        }
        Some(if quoted { Err(NoAddress) } else { Ok(rest.trim_ascii()) })
    }
}

/// The address in the parameter `for` of an element of `Forwarded`. More is taken than RFC 7239 allows where nothing else could be
/// meant: white space around a semicolon, and addresses without the quotes or brackets that they should have.
fn parse_forwarded(element: &[u8]) -> Result<IpAddr, NoAddress> {
    // No address needs an escaped byte. Where another parameter has one, as a host that a client has chosen may, the quotes that
    // were counted to find the element may be the wrong ones.
    if element.contains(&b'\\') {
        return Err(NoAddress);
    }
    let mut found = None;
    let mut quoted = false;
    let is_end = |byte: &u8| {
        quoted ^= *byte == b'"';
        *byte == b';' && !quoted
    };
    for pair in element.split(is_end) {
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|&byte| byte == b'=').ok_or(NoAddress)?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) || !is_value(value) {
            return Err(NoAddress);
        }
        // A parameter occurs once (RFC 7239, section 4).
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return Err(NoAddress);
        }
    }
    parse_node(found.ok_or(NoAddress)?)
}

/// Whether this is one quoted text, or has no quote at all.
fn is_value(value: &[u8]) -> bool {
    let quotes = value.iter().filter(|&&byte| byte == b'"').count();
    quotes == 0 || (quotes == 2 && value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\""))
}

/// A byte of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address as a proxy may write it: IPv4 or IPv6; in brackets if it is IPv6; with a port, then in brackets if it is IPv6; all of it
/// in quotes; with a zone, which means nothing here (RFC 4007, section 6). `unknown` and obfuscated names are no addresses (RFC 7239,
/// section 6).
pub(crate) fn parse_node(node: &[u8]) -> Result<IpAddr, NoAddress> {
    let text = std::str::from_utf8(node).map_err(|_| NoAddress)?;
    let text = match text.strip_prefix('"') {
        Some(text) => text.strip_suffix('"').ok_or(NoAddress)?,
        None => text,
    };
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or(NoAddress)?;
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return Err(NoAddress);
        }
        return parse_ipv6(address);
    }
    match text.split_once(':') {
        None => parse_ipv4(text),
        Some((address, port)) if is_port(port) && !address.is_empty() => parse_ipv4(address),
        Some(_) => parse_ipv6(text),
    }
}

fn parse_ipv4(text: &str) -> Result<IpAddr, NoAddress> {
    text.parse().map(IpAddr::V4).map_err(|_| NoAddress)
}

fn parse_ipv6(text: &str) -> Result<IpAddr, NoAddress> {
    let address = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() && zone.bytes().all(is_zone) => address,
        Some(_) => return Err(NoAddress),
        None => text,
    };
    address.parse::<Ipv6Addr>().map(|ip| IpAddr::V6(ip).to_canonical()).map_err(|_| NoAddress)
}

/// Whether this is a port, or the obfuscated name of one (RFC 7239, section 6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

/// A byte of a zone, in which a percent sign may be written as `%25` (RFC 6874, section 2).
fn is_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%._~-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        let cases = [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1:_gazonk", "192.0.2.1"),
            ("\"192.0.2.1:80\"", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:65535", "2001:db8::1"),
            ("\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("::1", "::1"),
            ("1::80", "1::80"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:c000:201]:80", "192.0.2.1"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_node(text.as_bytes()), Ok(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        let cases = [
            "",
            "\"",
            "\"\"",
            "[",
            "[]",
            "]",
            ":",
            ":80",
            "::%",
            "unknown",
            "_hidden",
            "localhost",
            "example.org",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.4/32",
            "1.2.3.256",
            "0x7f000001",
            "2130706433",
            "127.1",
            "1.2.3.4:",
            "1.2.3.4:+80",
            "1.2.3.4:65536",
            "1.2.3.4:000080",
            "1.2.3.4:_",
            "1.2.3.4:80:80",
            "1.2.3.4 5.6.7.8",
            "1.2.3.4%eth0",
            "[1.2.3.4]",
            "[1.2.3.4]:80",
            "2001:db8::1::1",
            "2001:db8::/32",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[2001:db8::1]:x",
            "[[2001:db8::1]]",
            "fe80::1%",
            "fe80::1%eth 0",
            "\"1.2.3.4",
            "1.2.3.4\"",
            "\"\"1.2.3.4\"\"",
            "'1.2.3.4'",
            "1.2.3.4;",
            "for=1.2.3.4",
            "\u{661}.2.3.4",
        ];
        for text in cases {
            assert_eq!(parse_node(text.as_bytes()), Err(NoAddress), "{text:?}");
        }
        assert_eq!(parse_node(b"1.2.3.\xff"), Err(NoAddress));
    }

    #[test]
    fn an_element_of_forwarded_says_for_whom_once() {
        for text in [
            "for=192.0.2.1",
            "FOR=192.0.2.1",
            "for=\"192.0.2.1\"",
            "for=\"192.0.2.1:80\"",
            "for=192.0.2.1:80",
            "proto=https;for=192.0.2.1;by=_proxy",
            "for=192.0.2.1; proto=http",
            ";for=192.0.2.1;",
            "for=192.0.2.1;host=\"a;for=6.6.6.6\"",
            "for=192.0.2.1;host=\"a,b\"",
            "for=192.0.2.1;host=\"\"",
            "for=192.0.2.1;x=\"for=\"",
        ] {
            assert_eq!(parse_forwarded(text.as_bytes()), Ok("192.0.2.1".parse().unwrap()), "{text}");
        }
        for text in [
            "192.0.2.1",
            "for",
            "for=",
            "=192.0.2.1",
            "for=unknown",
            "for=_hidden",
            "for=\"unknown\"",
            "by=192.0.2.1",
            "proto=https",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1;For=192.0.2.2",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "fo r=192.0.2.1",
            "for=\"192.0.2.1",
            "for=\"192.0.2\".1",
            "for=x\"192.0.2.1\"",
            "for=\"192.0.2.\\1\"",
            "for=192.0.2.1;host=\"\\\"\"",
            "for=192.0.2.1;host",
            "for=192.0.2.1;=x",
            "for==192.0.2.1",
            "xfor=192.0.2.1",
            "for*=192.0.2.1",
        ] {
            assert_eq!(parse_forwarded(text.as_bytes()), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn an_element_ends_where_its_proxy_began_it_whatever_stands_left_of_it() {
        let elements = |text: &'static str| {
            let elements = Elements { rest: Some(text.as_bytes()), syntax: Syntax::Forwarded };
            elements.map(|element| element.map(|bytes| std::str::from_utf8(bytes).unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(elements("for=a , for=b"), [Ok("for=b"), Ok("for=a")]);
        assert_eq!(elements("for=\"a,b\",,for=\"c,d\""), [Ok("for=\"c,d\""), Ok(""), Ok("for=\"a,b\"")]);
        assert_eq!(elements("for=\"a, for=b"), [Ok("for=b"), Err(NoAddress)]);
        assert_eq!(elements("for=\"a, for=\"b\""), [Ok("for=\"b\""), Err(NoAddress)]);
        assert_eq!(elements(""), [Ok("")]);
    }
}
