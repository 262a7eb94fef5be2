//! The PROXY protocol: how a proxy that forwards bytes says who has connected to it.
//!
//! What is sent before anything else is a line of text (version 1) or a binary header (version 2); both name the source of the
//! connection. The frame is found here, so that a header may come in any number of pieces; the crate `ppp` reads one that is whole. (Of
//! one that is not, version 2.3 of it calls some prefixes malformed.) The specification is HAProxy's `proxy-protocol.txt`, here
//! "the specification".
//!
//! The invariant: what was decided of a prefix holds for every longer input, and no more than [`PROXY_HEADER_BYTES_MAX`] bytes are
//! waited for.

use std::net::SocketAddr;

use ppp::{v1, v2};

/// The longest header that is taken. The addresses of version 2 need 232 bytes; the rest is for additional values (TLVs), which are
/// skipped. nginx takes as many.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// The longest line of version 1, its end included (section 2.1 of the specification).
const LINE_BYTES_MAX: usize = 107;

const LINE_START: &[u8] = b"PROXY ";
const LINE_UNKNOWN: &[u8] = b"PROXY UNKNOWN";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses: signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Version 2, of a connection that the proxy has made for itself, such as a health check.
const LOCAL: u8 = 0x20;
/// Version 2, of a connection on behalf of another.
const PROXY: u8 = 0x21;

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// A part of a header.
    Partial,
    /// A whole header, and its length in bytes. Without a source (`LOCAL`, `UNKNOWN`, another family than IP over TCP) the connection keeps the
    /// peer that it has.
    Complete {
        /// Who has connected to the proxy, and from which port.
        source: Option<SocketAddr>,
        /// Bytes of the header; the connection's own begin behind them.
        bytes: usize,
    },
}

/// A connection that does not begin as it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// It begins with something else.
    #[error("the connection does not begin with the PROXY protocol")]
    Missing,
    /// It begins with a header that is wrong or too long.
    #[error("the header of the PROXY protocol is malformed, or longer than {PROXY_HEADER_BYTES_MAX} bytes")]
    Malformed,
}

impl ProxyHeader {
    /// Reads the header that `input` should begin with: all bytes of the connection so far, so at each call a longer prefix of the same
    /// stream, until it is complete.
    ///
    /// # Errors
    /// As soon as no more bytes could make a header of it.
    ///
    /// # Example
    /// ```
    /// use baiwan_limits::ProxyHeader;
    ///
    /// let input = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 80\r\nGET / HTTP/1.1\r\n";
    /// let source = Some("192.0.2.1:56324".parse().expect("an address"));
    /// assert_eq!(ProxyHeader::parse(input), Ok(ProxyHeader::Complete { source, bytes: 44 }));
    /// assert_eq!(ProxyHeader::parse(&input[..20]), Ok(ProxyHeader::Partial));
    /// assert!(ProxyHeader::parse(b"GET / HTTP/1.1\r\n").is_err());
    /// ```
    pub fn parse(input: &[u8]) -> Result<Self, ProxyHeaderError> {
        match input {
            _ if input.starts_with(LINE_START) => parse_line(input),
            _ if input.starts_with(SIGNATURE) => parse_binary(input),
            _ if LINE_START.starts_with(input) || SIGNATURE.starts_with(input) => Ok(Self::Partial),
            _ => Err(ProxyHeaderError::Missing),
        }
    }
}

fn parse_line(input: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    let end = window.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let end = match end.map(|end| (end, &window[end..])) {
        Some((end, [b'\r', b'\n', ..])) => end,
        Some((_, [b'\r'])) | None if window.len() < LINE_BYTES_MAX => return Ok(ProxyHeader::Partial),
        _ => return Err(ProxyHeaderError::Malformed),
    };
    let bytes = end + 2;
    // What follows UNKNOWN is ignored up to the end of the line; `ppp` does not take all of it.
    if let Some(rest) = window[..end].strip_prefix(LINE_UNKNOWN) {
        return match rest {
            [] | [b' ', ..] => Ok(ProxyHeader::Complete { source: None, bytes }),
            _ => Err(ProxyHeaderError::Malformed),
        };
    }
    // `ppp` takes a port with a sign.
    if window[..end].contains(&b'+') {
        return Err(ProxyHeaderError::Malformed);
    }
    let header = v1::Header::try_from(&window[..bytes]).map_err(|_| ProxyHeaderError::Malformed)?;
    let source = match header.addresses {
        v1::Addresses::Tcp4(addresses) => (addresses.source_address, addresses.source_port).into(),
        v1::Addresses::Tcp6(addresses) => (addresses.source_address, addresses.source_port).into(),
        v1::Addresses::Unknown => return Err(ProxyHeaderError::Malformed),
    };
    Ok(ProxyHeader::Complete { source: Some(source), bytes })
}

fn parse_binary(input: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let command = input.get(SIGNATURE.len()).copied();
    if command.is_some_and(|command| command != LOCAL && command != PROXY) {
        return Err(ProxyHeaderError::Malformed);
    }
    let [.., high, low] = *input.get(..FIXED_BYTES).unwrap_or_default() else { return Ok(ProxyHeader::Partial) };
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if bytes > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::Malformed);
    }
    let Some(header) = input.get(..bytes) else { return Ok(ProxyHeader::Partial) };
    // Whatever such a header says of addresses is ignored (section 2.2 of the specification), its family included.
    if command == Some(LOCAL) {
        return Ok(ProxyHeader::Complete { source: None, bytes });
    }
    let header = v2::Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?;
    let source = match header.addresses {
        _ if header.protocol != v2::Protocol::Stream => None,
        v2::Addresses::IPv4(addresses) => Some((addresses.source_address, addresses.source_port).into()),
        v2::Addresses::IPv6(addresses) => Some((addresses.source_address, addresses.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    };
    Ok(ProxyHeader::Complete { source, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2 with this command, family, length and content.
    fn binary(command: u8, family: u8, length: u16, content: &[u8]) -> Vec<u8> {
        [SIGNATURE, &[command, family], &length.to_be_bytes(), content].concat()
    }

    fn whole(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        binary(command, family, content.len() as u16, content)
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187];

    fn ipv6() -> Vec<u8> {
        let mut content = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        content.extend([0xff; 16]);
        content.extend([0, 80, 1, 187]);
        content
    }

    #[track_caller]
    fn complete(header: &[u8], source: Option<&str>) {
        let source = source.map(|text| text.parse().expect("an address"));
        let expected = Ok(ProxyHeader::Complete { source, bytes: header.len() });
        assert_eq!(ProxyHeader::parse(header), expected, "{}", header.escape_ascii());
        for end in 0..header.len() {
            assert_eq!(
                ProxyHeader::parse(&header[..end]),
                Ok(ProxyHeader::Partial),
                "{end} of {}",
                header.escape_ascii()
            );
        }
        assert_eq!(ProxyHeader::parse(&[header, b"\r\nPROXY GET"].concat()), expected, "{}", header.escape_ascii());
    }

    #[test]
    fn version_1_names_the_source_in_a_line() {
        complete(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1:56324"));
        complete(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535"));
        complete(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Some("[2001:db8::1]:1"));
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        complete(format!("PROXY TCP6 {long} {long} 65535 65535\r\n").as_bytes(), Some(&format!("[{long}]:65535")));
        complete(b"PROXY UNKNOWN\r\n", None);
        complete(b"PROXY UNKNOWN a b c d e f g h i\r\n", None);
        complete(format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n").as_bytes(), None);
    }

    #[test]
    fn version_2_names_the_source_in_binary() {
        complete(&whole(PROXY, 0x11, &IPV4), Some("192.0.2.1:80"));
        complete(&whole(PROXY, 0x21, &ipv6()), Some("[2001:db8::1]:80"));
        // With additional values, well-formed or not.
        complete(&whole(PROXY, 0x11, &[&IPV4[..], &[0x04, 0, 1, 7]].concat()), Some("192.0.2.1:80"));
        complete(&whole(PROXY, 0x11, &[&IPV4[..], &[0xff; 300]].concat()), Some("192.0.2.1:80"));
        complete(&whole(PROXY, 0x11, &[&IPV4[..], &[0; PROXY_HEADER_BYTES_MAX - 28]].concat()), Some("192.0.2.1:80"));
    }

    #[test]
    fn a_header_may_name_nobody() {
        complete(&whole(LOCAL, 0x00, &[]), None);
        complete(&whole(LOCAL, 0x11, &IPV4), None);
        // The family of such a header means nothing.
        complete(&whole(LOCAL, 0x11, &[]), None);
        complete(&whole(LOCAL, 0xff, &[1, 2, 3]), None);
        complete(&whole(PROXY, 0x00, &[]), None);
        complete(&whole(PROXY, 0x00, &IPV4), None);
        complete(&whole(PROXY, 0x31, &[1; 216]), None);
        // Not TCP.
        complete(&whole(PROXY, 0x12, &IPV4), None);
        complete(&whole(PROXY, 0x10, &IPV4), None);
    }

    /// Refused with its last byte and not before, and whatever follows.
    #[track_caller]
    fn refused(error: ProxyHeaderError, input: &[u8]) {
        let before = &input[..input.len() - 1];
        assert_eq!(ProxyHeader::parse(before), Ok(ProxyHeader::Partial), "{}", input.escape_ascii());
        assert_eq!(ProxyHeader::parse(input), Err(error), "{}", input.escape_ascii());
        for more in [&b"\n"[..], b"\r\n", b" ", b"\0", b"PROXY UNKNOWN\r\n"] {
            assert_eq!(ProxyHeader::parse(&[input, more].concat()), Err(error), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        for input in [
            "G",
            "p",
            " ",
            "\n",
            "PU",
            "PROPF",
            "PROXY\r",
            "PROXY\t",
            "\r\r",
            "\r\nG",
            "\r\n\r\nGET",
            "\x16",
            "\r\n\r\n\0\r\nQUIT\r",
        ] {
            let end = (1..=input.len()).find(|end| ProxyHeader::parse(&input.as_bytes()[..*end]).is_err());
            refused(ProxyHeaderError::Missing, &input.as_bytes()[..end.expect("it is none")]);
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for line in [
            "",
            " ",
            "TCP4",
            "TCP4 192.0.2.1 192.0.2.1 1",
            "TCP4 192.0.2.1 192.0.2.1 1 2 3",
            "TCP4 192.0.2.1 192.0.2.1 1 2 ",
            "TCP4  192.0.2.1 192.0.2.1 1 2",
            "TCP4 192.0.2.1 192.0.2.1 +1 2",
            "TCP4 192.0.2.1 192.0.2.1 01 2",
            "TCP4 192.0.2.1 192.0.2.1 65536 2",
            "TCP4 192.0.2.1 192.0.2.1 -1 2",
            "TCP4 192.0.2.01 192.0.2.1 1 2",
            "TCP4 ::1 ::1 1 2",
            "TCP6 192.0.2.1 192.0.2.1 1 2",
            "TCP6 fe80::1%1 ::1 1 2",
            "TCP5 192.0.2.1 192.0.2.1 1 2",
            "UDP4 192.0.2.1 192.0.2.1 1 2",
            "tcp4 192.0.2.1 192.0.2.1 1 2",
            "UNKNOWNS",
            "\u{e9}",
            "TCP4 192.0.2.1 192.0.2.1 1 \u{e9}",
        ] {
            refused(ProxyHeaderError::Malformed, format!("PROXY {line}\r\n").as_bytes());
        }
        refused(ProxyHeaderError::Malformed, b"PROXY TCP4 192.0.2.1 192.0.2.1 1 2\n");
        refused(ProxyHeaderError::Malformed, b"PROXY UNKNOWN\rx");
        // Version 1 itself, another command, a family that there is not, too few bytes for its addresses.
        refused(ProxyHeaderError::Malformed, &[SIGNATURE, &[0x11]].concat());
        refused(ProxyHeaderError::Malformed, &[SIGNATURE, &[0x22]].concat());
        refused(ProxyHeaderError::Malformed, &[SIGNATURE, &[0x31]].concat());
        refused(ProxyHeaderError::Malformed, &whole(PROXY, 0x41, &IPV4));
        refused(ProxyHeaderError::Malformed, &whole(PROXY, 0x13, &IPV4));
        refused(ProxyHeaderError::Malformed, &whole(PROXY, 0x11, &IPV4[..11]));
        refused(ProxyHeaderError::Malformed, &whole(PROXY, 0x21, &ipv6()[..35]));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_there() {
        let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        complete(line(LINE_BYTES_MAX).as_bytes(), None);
        refused(ProxyHeaderError::Malformed, &line(LINE_BYTES_MAX + 1).as_bytes()[..LINE_BYTES_MAX]);
        refused(ProxyHeaderError::Malformed, &line(10_000).as_bytes()[..LINE_BYTES_MAX]);
        let most = (PROXY_HEADER_BYTES_MAX - FIXED_BYTES) as u16;
        assert_eq!(ProxyHeader::parse(&binary(PROXY, 0x11, most, &[])), Ok(ProxyHeader::Partial));
        // The length that decides it is 4081, 0x0ff1, so its last byte does.
        refused(ProxyHeaderError::Malformed, &binary(PROXY, 0x11, most + 1, &[]));
        refused(ProxyHeaderError::Malformed, &binary(LOCAL, 0x00, u16::MAX, &[]));
    }
}
