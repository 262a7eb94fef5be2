//! What the lines of a request head mean together: framing, Host, persistence, expectation, upgrade.
//!
//! This judges lines whose syntax is known to be right, one at a time and in their order, so that it can run over a
//! whole head or over one that is still arriving, with the same result. Invariant: a doubt about where the body ends is
//! a refusal (RFC 9112 6.3), never a choice.

use http::Version;

use crate::host::HostPort;
use crate::octet;
use crate::target::{DEFAULT_PORT, Target};
use crate::{BodyFraming, Limits, Refusal};

/// Facts that the lines so far have stated, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts(u16);

impl Facts {
    /// The request line was read.
    pub(crate) const REQUEST_LINE: Facts = Facts(1);
    /// The version is HTTP/1.0.
    pub(crate) const VERSION_1_0: Facts = Facts(1 << 1);
    /// The version is HTTP/1.2 to 1.9, which is read as 1.1 (RFC 9110 2.5).
    pub(crate) const VERSION_LATER: Facts = Facts(1 << 2);
    const HOST: Facts = Facts(1 << 3);
    const LENGTH: Facts = Facts(1 << 4);
    const BODY: Facts = Facts(1 << 5);
    const CHUNKED: Facts = Facts(1 << 6);
    const CLOSE: Facts = Facts(1 << 7);
    const KEEP_ALIVE: Facts = Facts(1 << 8);
    const CONNECTION_UPGRADE: Facts = Facts(1 << 9);
    const UPGRADE: Facts = Facts(1 << 10);
    const WEBSOCKET: Facts = Facts(1 << 11);
    const EXPECT_CONTINUE: Facts = Facts(1 << 12);

    /// Whether all of `facts` were stated.
    #[inline]
    pub(crate) fn has(self, facts: Facts) -> bool {
        self.0 & facts.0 == facts.0
    }

    #[inline]
    fn add(&mut self, facts: Facts) {
        self.0 |= facts.0;
    }
}

/// The rules, and what they remember from one line to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) facts: Facts,
    /// The Content-Length. Meaningful only where the rules have seen the whole head.
    length: u64,
}

impl Rules {
    /// The rules in the middle of a head, for more of its lines but not for its [`framing`](Rules::framing).
    pub(crate) fn resume(facts: Facts) -> Rules {
        Rules { facts, length: 0 }
    }

    /// Judges a request line. None of the parts is empty.
    pub(crate) fn request_line(&mut self, method: &[u8], target: &[u8], version: &[u8]) -> Result<(), Refusal> {
        let [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] = version else {
            return Err(Refusal::VersionMalformed);
        };
        match (major, minor) {
            (b'1', b'0') => self.facts.add(Facts::VERSION_1_0),
            (b'1', b'1') => {}
            (b'1', _) => self.facts.add(Facts::VERSION_LATER),
            _ => return Err(Refusal::VersionUnsupported),
        }
        Target::parse(method, target)?;
        self.facts.add(Facts::REQUEST_LINE);
        Ok(())
    }

    /// Judges a field line. `name` is a token; `value` is all between the colon and the line end; `target` is that of
    /// the request line, which has been judged.
    #[inline]
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], target: &[u8], limits: &Limits) -> Result<(), Refusal> {
        // Most fields differ from all of these in length already.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(octet::trim(value), target),
            6 if name.eq_ignore_ascii_case(b"expect") => self.expect(octet::trim(value)),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade(value);
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value, limits),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    /// Judges what only the end of the head can show.
    pub(crate) fn finish(&self) -> Result<(), Refusal> {
        if !self.facts.has(Facts::HOST) && !self.facts.has(Facts::VERSION_1_0) {
            return Err(Refusal::HostMissing);
        }
        // Frames that follow the handshake could be taken for the body, or the body for frames.
        if self.wants_upgrade() && self.facts.has(Facts::WEBSOCKET) && self.facts.has(Facts::BODY) {
            return Err(Refusal::WebsocketWithBody);
        }
        Ok(())
    }

    /// The framing of the body.
    pub(crate) fn framing(&self) -> BodyFraming {
        match self.length {
            _ if self.facts.has(Facts::CHUNKED) => BodyFraming::Chunked,
            0 => BodyFraming::None,
            length => BodyFraming::Length(length),
        }
    }

    /// The version that the request is handled as.
    pub(crate) fn version(&self) -> Version {
        if self.facts.has(Facts::VERSION_1_0) { Version::HTTP_10 } else { Version::HTTP_11 }
    }

    /// Whether the connection persists (RFC 9112 9.3).
    pub(crate) fn keep_alive(&self) -> bool {
        !self.facts.has(Facts::CLOSE) && (!self.facts.has(Facts::VERSION_1_0) || self.facts.has(Facts::KEEP_ALIVE))
    }

    /// Whether the client may wait for `100 Continue` before it sends the body (RFC 9110 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.facts.has(Facts::EXPECT_CONTINUE) && self.facts.has(Facts::BODY) && !self.facts.has(Facts::VERSION_1_0)
    }

    /// Whether the client offers another protocol that a server might take up (RFC 9110 7.8).
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.facts.has(Facts::CONNECTION_UPGRADE)
            && self.facts.has(Facts::UPGRADE)
            && !self.facts.has(Facts::VERSION_1_0)
    }

    fn host(&mut self, value: &[u8], target: &[u8]) -> Result<(), Refusal> {
        if self.facts.has(Facts::HOST) {
            return Err(Refusal::HostRepeated);
        }
        let host = HostPort::parse(value).ok_or(Refusal::HostInvalid)?;
        // An origin form begins with a slash, an asterisk form has no authority: only the absolute form is read again.
        if !matches!(target, [b'/', ..] | b"*")
            && let Target::Absolute(authority) = Target::parse(b"", target)?
            && !authority.is_same(&host, DEFAULT_PORT)
        {
            return Err(Refusal::HostMismatch);
        }
        self.facts.add(Facts::HOST);
        Ok(())
    }

    fn content_length(&mut self, value: &[u8], limits: &Limits) -> Result<(), Refusal> {
        if self.facts.has(Facts::CHUNKED) {
            return Err(Refusal::LengthAndTransferEncoding);
        }
        if self.facts.has(Facts::LENGTH) {
            return Err(Refusal::LengthRepeated);
        }
        self.length = parse_length(trim_framing(value).ok_or(Refusal::LengthInvalid)?).ok_or(Refusal::LengthInvalid)?;
        if self.length > limits.body_bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
        self.facts.add(Facts::LENGTH);
        if self.length > 0 {
            self.facts.add(Facts::BODY);
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.facts.has(Facts::LENGTH) {
            return Err(Refusal::LengthAndTransferEncoding);
        }
        if self.facts.has(Facts::CHUNKED) {
            return Err(Refusal::TransferEncodingRepeated);
        }
        if self.facts.has(Facts::VERSION_1_0) {
            return Err(Refusal::TransferEncodingVersion);
        }
        let value = trim_framing(value).ok_or(Refusal::TransferEncodingInvalid)?;
        if !value.eq_ignore_ascii_case(b"chunked") {
            let known_end = ends_in_chunked(value);
            return Err(if known_end { Refusal::TransferEncodingUnknown } else { Refusal::TransferEncodingInvalid });
        }
        self.facts.add(Facts::CHUNKED);
        self.facts.add(Facts::BODY);
        Ok(())
    }

    /// An empty list expects nothing. Longer ones are not taken apart: what hides the one expectation there is among
    /// others, or commas, wants somebody else to read it differently.
    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if value.is_empty() {
            return Ok(());
        }
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::ExpectationUnknown);
        }
        self.facts.add(Facts::EXPECT_CONTINUE);
        Ok(())
    }

    /// Options other than these three name hop-by-hop fields. They are left in place: a client must not be able to take
    /// away a field that the application relies on by nominating it (RFC 9110 7.6.1).
    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(octet::trim) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.facts.add(Facts::CLOSE),
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.facts.add(Facts::CONNECTION_UPGRADE),
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.facts.add(Facts::KEEP_ALIVE),
                _ => {}
            }
        }
    }

    /// `h2c` is obsolete (RFC 9113 3.1) and a way around whatever stands before the server: it is as if it were not
    /// there.
    fn upgrade(&mut self, value: &[u8]) {
        for protocol in value.split(|&byte| byte == b',').map(octet::trim) {
            if protocol.eq_ignore_ascii_case(b"websocket") {
                self.facts.add(Facts::WEBSOCKET);
            }
            if !protocol.is_empty() && !protocol.eq_ignore_ascii_case(b"h2c") {
                self.facts.add(Facts::UPGRADE);
            }
        }
    }
}

/// A decimal number without sign and leading zeros that fits 63 bits. Some peers compute with signed numbers; beyond
/// that two sides of a proxy could differ.
pub(crate) fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let mut length: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        length = length * 10 + u64::from(digit - b'0');
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Trims spaces from the value of a framing field. A tab there is legal, but so rarely meant well, and read in so many
/// ways, that it counts as doubt: None.
pub(crate) fn trim_framing(value: &[u8]) -> Option<&[u8]> {
    (!value.contains(&b'\t')).then(|| octet::trim(value))
}

/// Whether a Transfer-Encoding other than `chunked` alone is well-formed and frames the body all the same, that is, ends
/// in the one `chunked`. Then it is merely unknown.
pub(crate) fn ends_in_chunked(value: &[u8]) -> bool {
    let mut chunked_last = false;
    for coding in value.split(|&byte| byte == b',').map(octet::trim) {
        if coding.is_empty() || !octet::all(coding, octet::TOKEN) || chunked_last {
            return false;
        }
        chunked_last = coding.eq_ignore_ascii_case(b"chunked");
    }
    chunked_last
}
