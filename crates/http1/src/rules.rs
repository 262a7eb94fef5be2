//! What the lines of a request head mean together: framing, Host, persistence, expectation, upgrade.
//!
//! This judges lines whose syntax is known to be right, one at a time and in their order, so that it can run over a
//! whole head or over one that is still arriving, with the same result. All lines of one name are one list (RFC 9110 5.3): it
//! means the same on one line and on several. Invariant: a doubt about where the body ends is a refusal (RFC 9112 6.3), never
//! a choice.

use http::Version;

use crate::field_name::KnownName;
use crate::framing::{Codings, parse_length, trim_framing};
use crate::host::HostPort;
use crate::octet;
use crate::request_head::BodyFraming;
use crate::target::{DEFAULT_PORT, Target};
use crate::{Limits, Refusal};

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
    /// There was an Expect line.
    const EXPECT: Facts = Facts(1 << 12);
    const EXPECT_CONTINUE: Facts = Facts(1 << 13);
    /// Transfer codings other than chunked were named.
    const OTHER_CODINGS: Facts = Facts(1 << 14);
    /// There was a field that says what the request is called.
    const NAMED: Facts = Facts(1 << 15);

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

/// `HTTP/`, a digit, `.` and a digit: what every version looks like (RFC 9112 2.3).
const VERSION: &[u8; 8] = b"HTTP/d.d";
/// Bytes of a version.
pub(crate) const VERSION_LENGTH: usize = VERSION.len();

/// Judges a version that has no end yet, and whose first `judged` bytes have been found right: everything that more bytes
/// could not put right. Whether it is malformed or of another major version is known at its last digit.
pub(crate) fn check_version_start(version: &[u8], judged: usize) -> Result<(), Refusal> {
    for (index, byte) in version.iter().enumerate().skip(judged) {
        let right = match VERSION.get(index) {
            Some(b'd') => byte.is_ascii_digit(),
            expected => expected == Some(byte),
        };
        match index {
            _ if !right => return Err(Refusal::VersionMalformed),
            7 if version[5] != b'1' => return Err(Refusal::VersionUnsupported),
            _ => {}
        }
    }
    Ok(())
}

impl Rules {
    /// The rules in the middle of a head, for more of its lines but not for its [`framing`](Rules::framing).
    pub(crate) fn resume(facts: Facts) -> Rules {
        Rules { facts, length: 0 }
    }

    /// Judges the version, which ends a request line.
    pub(crate) fn version_of_line(&mut self, version: &[u8]) -> Result<(), Refusal> {
        if version != b"HTTP/1.1" {
            check_version_start(version, 0)?;
            match version.get(VERSION_LENGTH - 1) {
                None => return Err(Refusal::VersionMalformed),
                Some(b'0') => self.facts.add(Facts::VERSION_1_0),
                Some(_) => self.facts.add(Facts::VERSION_LATER),
            }
        }
        self.facts.add(Facts::REQUEST_LINE);
        Ok(())
    }

    /// Judges a field line. `value` is all between the colon and the line end; `target` is that of the request line, which has
    /// been judged.
    #[inline(never)]
    pub(crate) fn field(
        &mut self,
        name: KnownName,
        value: &[u8],
        target: &[u8],
        limits: &Limits,
    ) -> Result<(), Refusal> {
        match name {
            KnownName::Host => self.host(octet::trim(value), target),
            KnownName::Expect => self.expect(octet::trim(value)),
            KnownName::ContentLength => self.content_length(value, limits),
            KnownName::TransferEncoding => self.transfer_encoding(value),
            KnownName::Upgrade => {
                self.upgrade(value);
                Ok(())
            }
            KnownName::Connection => {
                self.connection(value);
                Ok(())
            }
            KnownName::Traceparent | KnownName::XRequestId => {
                self.facts.add(Facts::NAMED);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Judges what only the end of the head can show.
    pub(crate) fn finish(&self) -> Result<(), Refusal> {
        self.codings().finish()?;
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

    /// Whether the client says what the request is called.
    pub(crate) fn is_named(&self) -> bool {
        self.facts.has(Facts::NAMED)
    }

    /// Whether the client offers another protocol that a server might take up (RFC 9110 7.8).
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.facts.has(Facts::CONNECTION_UPGRADE)
            && self.facts.has(Facts::UPGRADE)
            && !self.facts.has(Facts::VERSION_1_0)
    }

    /// The same, where the server can hand the connection over: whoever took the offer up would read the head as it came, with
    /// its version, which must not be one that it may not know.
    pub(crate) fn offers_upgrade(&self) -> bool {
        self.wants_upgrade() && !self.facts.has(Facts::VERSION_LATER)
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
        if !self.codings().is_empty() {
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
        if self.facts.has(Facts::VERSION_1_0) {
            return Err(Refusal::TransferEncodingVersion);
        }
        let codings = self.codings().with_line(value)?;
        if codings.others {
            self.facts.add(Facts::OTHER_CODINGS);
        }
        if codings.chunked {
            self.facts.add(Facts::CHUNKED);
            self.facts.add(Facts::BODY);
        }
        Ok(())
    }

    fn codings(&self) -> Codings {
        Codings { others: self.facts.has(Facts::OTHER_CODINGS), chunked: self.facts.has(Facts::CHUNKED) }
    }

    /// An empty list expects nothing. In any other each member is the one expectation there is: what hides it among others, or
    /// among commas, wants somebody else to read it differently.
    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_first = !self.facts.has(Facts::EXPECT);
        self.facts.add(Facts::EXPECT);
        if is_first && value.is_empty() {
            return Ok(());
        }
        let mut members = value.split(|&byte| byte == b',').map(octet::trim);
        let goes_on = is_first || self.facts.has(Facts::EXPECT_CONTINUE);
        if !goes_on || !members.all(|member| member.eq_ignore_ascii_case(b"100-continue")) {
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
