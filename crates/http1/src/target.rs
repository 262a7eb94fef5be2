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
    /// A whole `http` or `https` URI, as clients send it to proxies.
    Absolute {
        /// The authority, which is what the Host field must say too.
        authority: HostPort<'a>,
        /// The port that a missing one stands for: 80 or 443.
        default_port: u16,
    },
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

/// Splits a target in absolute form without judging the path. None where it is not `http` or `https`.
fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8], u16)> {
    let (scheme_length, default_port) = if starts_with_ignore_case(target, b"http://") {
        (b"http://".len(), 80)
    } else if starts_with_ignore_case(target, b"https://") {
        (b"https://".len(), 443)
    } else {
        return None;
    };
    let rest = &target[scheme_length..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')).unwrap_or(rest.len());
    Some((&rest[..end], &rest[end..], default_port))
}

fn parse_absolute(target: &[u8]) -> Result<Target<'_>, Refusal> {
    let Some((authority, path_and_query, default_port)) = split_absolute(target) else {
        // A byte that no form allows says more than the form that the rest does not have.
        let is_text = target.iter().all(|&byte| octet::is(byte, octet::PATH | octet::QUERY));
        return Err(if is_text { Refusal::TargetForm } else { Refusal::TargetInvalid });
    };
    check_path_and_query(path_and_query)?;
    // `http::Uri` holds no host with percent-encoding, and no name that can be resolved has one.
    if authority.contains(&b'%') {
        return Err(Refusal::TargetAuthority);
    }
    let authority = HostPort::parse(authority).ok_or(Refusal::TargetAuthority)?;
    Ok(Target::Absolute { authority, default_port })
}

fn check_path_and_query(bytes: &[u8]) -> Result<(), Refusal> {
    let path_end = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(path_end);
    if octet::all(path, octet::PATH) && octet::all(query, octet::QUERY) { Ok(()) } else { Err(Refusal::TargetInvalid) }
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
