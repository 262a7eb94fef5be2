//! The request target: its four forms and which of them suits which method (RFC 9112 3.2).
//!
//! What is valid here is never refused by `http::Uri`, so that a target is judged once and without an allocation.

use crate::Refusal;
use crate::host::HostPort;
use crate::octet;

/// The form of a valid target. There is no authority form: CONNECT is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// A path and a query.
    Origin,
    /// A whole `http` URI, as clients send it to proxies, with its authority, which is what the Host field must say too.
    Absolute(HostPort<'a>),
    /// `*`, with OPTIONS.
    Asterisk,
}

impl<'a> Target<'a> {
    /// Judges `target` for a request with `method`. The target must not be empty.
    pub(crate) fn parse(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, Refusal> {
        if !octet::all(target, octet::TARGET) {
            return Err(Refusal::TargetInvalid);
        }
        Target::of_bytes(method, target)
    }

    /// The same, where every byte of `target` is known to be one that may stand in it.
    #[inline]
    pub(crate) fn of_bytes(method: &[u8], target: &'a [u8]) -> Result<Target<'a>, Refusal> {
        if method == b"CONNECT" {
            let authority = HostPort::parse(target).ok_or(Refusal::TargetForm)?;
            return Err(if authority.port.is_some() { Refusal::ConnectUnsupported } else { Refusal::TargetForm });
        }
        match target {
            [b'/', ..] => Ok(Target::Origin),
            b"*" if method == b"OPTIONS" => Ok(Target::Asterisk),
            _ => parse_absolute(target),
        }
    }
}

/// The port of an `http` URI that names none.
pub(crate) const DEFAULT_PORT: u16 = 80;

const HTTP: &[u8] = b"http://";
const HTTPS: &[u8] = b"https://";
/// Colons within brackets, beyond which `http::Uri` holds no authority. An IPv6 address has seven at most.
const COLONS_MAX: usize = 8;

/// Judges the start of a target, all of whose bytes may stand in one and whose first `judged` have been found right: whether
/// it can still become of a form that suits `method`.
pub(crate) fn check_form_start(method: &[u8], target: &[u8], judged: usize) -> Result<(), Refusal> {
    match (method, target) {
        (b"CONNECT", _) | (_, [] | [b'/', ..]) | (b"OPTIONS", b"*") => Ok(()),
        (b"OPTIONS", [b'*', ..]) => Err(Refusal::TargetForm),
        // The preface of HTTP/2 (RFC 9113 3.4).
        (b"PRI", [b'*', ..]) => Err(Refusal::Http2Unexpected),
        // `PROXY TCP4 …` or `PROXY UNKNOWN`: version 1 of the PROXY protocol.
        (b"PROXY", [b'T' | b'U', ..]) => Err(Refusal::ProxyProtocolUnexpected),
        _ => {
            let scheme = scheme_of(target);
            let mut rest = target.iter().zip(scheme).skip(judged);
            if rest.all(|(byte, expected)| byte.eq_ignore_ascii_case(expected)) {
                Ok(())
            } else {
                Err(Refusal::TargetForm)
            }
        }
    }
}

/// The one of the two schemes that `target` could begin with.
fn scheme_of(target: &[u8]) -> &'static [u8] {
    if matches!(target.get(4), Some(b's' | b'S')) { HTTPS } else { HTTP }
}

/// A target that begins with no slash. `https` is refused: no connection here is secured, and what is asked for in secrecy must
/// not be answered without it (RFC 9110 7.4).
fn parse_absolute(target: &[u8]) -> Result<Target<'_>, Refusal> {
    let scheme = scheme_of(target);
    let (start, rest) = target.split_at_checked(scheme.len()).ok_or(Refusal::TargetForm)?;
    if !start.eq_ignore_ascii_case(scheme) {
        return Err(Refusal::TargetForm);
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = &rest[..end];
    // `http::Uri` holds no host with percent-encoding, and no name that can be resolved has one.
    if authority.contains(&b'%') {
        return Err(Refusal::TargetAuthority);
    }
    let authority = HostPort::parse(authority).ok_or(Refusal::TargetAuthority)?;
    if authority.host.iter().filter(|&&byte| byte == b':').count() > COLONS_MAX {
        return Err(Refusal::TargetAuthority);
    }
    if scheme == HTTPS { Err(Refusal::TargetScheme) } else { Ok(Target::Absolute(authority)) }
}
