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
        if method == b"CONNECT" {
            let authority = HostPort::parse(target).ok_or(Refusal::TargetForm)?;
            return Err(if authority.port.is_some() { Refusal::ConnectUnsupported } else { Refusal::TargetForm });
        }
        match target {
            [b'/', ..] => check_path_and_query(target).map(|()| Target::Origin),
            b"*" if method == b"OPTIONS" => Ok(Target::Asterisk),
            _ => parse_absolute(target),
        }
    }
}

/// The port of an `http` URI that names none.
pub(crate) const DEFAULT_PORT: u16 = 80;

/// A target that begins with no slash. `https` is refused: no connection here is secured, and what is asked for in secrecy must
/// not be answered without it (RFC 9110 7.4).
fn parse_absolute(target: &[u8]) -> Result<Target<'_>, Refusal> {
    let secure = starts_with_ignore_case(target, b"https://");
    if !secure && !starts_with_ignore_case(target, b"http://") {
        // A byte that no form allows says more than the form that the rest does not have.
        let is_text = target.iter().all(|&byte| octet::is(byte, octet::PATH | octet::QUERY));
        return Err(if is_text { Refusal::TargetForm } else { Refusal::TargetInvalid });
    }
    let rest = &target[if secure { b"https://".len() } else { b"http://".len() }..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    check_path_and_query(path_and_query)?;
    // `http::Uri` holds no host with percent-encoding, and no name that can be resolved has one.
    if authority.contains(&b'%') {
        return Err(Refusal::TargetAuthority);
    }
    let authority = HostPort::parse(authority).ok_or(Refusal::TargetAuthority)?;
    if secure { Err(Refusal::TargetScheme) } else { Ok(Target::Absolute(authority)) }
}

fn check_path_and_query(bytes: &[u8]) -> Result<(), Refusal> {
    let path_end = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(path_end);
    if octet::all(path, octet::PATH) && octet::all(query, octet::QUERY) { Ok(()) } else { Err(Refusal::TargetInvalid) }
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
