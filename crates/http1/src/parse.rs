//! A whole head, once through `httparse`, then into the types of the `http` crate.
//!
//! This accepts or does not; why not is for the scanner to say. Where `httparse` is lenient (LF alone as a line end,
//! empty lines before the request line, any byte above 0x7F in a target) the result is compared with the bytes it came
//! from. The head is copied once: target and field values share that copy.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use crate::field_line::take_line;
use crate::limits::{FIELDS_CEILING, Limits};
use crate::octet;
use crate::request_head::RequestHead;
use crate::rules::Rules;
use crate::target::Target;

/// Whether the version is HTTP/1.2 or later, and where in the head its last digit stands.
#[derive(Clone, Copy)]
pub(crate) enum LaterMinor {
    /// HTTP/1.0 or 1.1.
    No,
    /// At this index.
    At(usize),
}

/// Parses the head that `input` begins with. None where it is not whole, or breaks any rule.
pub(crate) fn parse_whole(
    input: &[u8],
    limits: &Limits,
    later_minor: LaterMinor,
    room: &mut HeaderMap,
) -> Option<(RequestHead, usize)> {
    if let LaterMinor::At(index) = later_minor {
        // httparse knows 1.0 and 1.1 only. A later minor version is handled as 1.1 (RFC 9110 2.5).
        let mut as_1_1 = input.to_vec();
        as_1_1[index] = b'1';
        let (head, consumed) = parse_whole(&as_1_1, limits, LaterMinor::No, room)?;
        // Whoever took the offer up would read the head as it came, with a version that it may not know.
        return Some((RequestHead { upgrade: false, ..head }, consumed));
    }
    if matches!(input.first(), None | Some(b'\r' | b'\n')) {
        return None;
    }
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(consumed)) =
        parsed.parse_with_uninit_headers(input, &mut table[..limits.fields()])
    else {
        return None;
    };
    let head = &input[..consumed];
    let (method, target) = (parsed.method?.as_bytes(), parsed.path?.as_bytes());
    if method.len() > limits.method_bytes_max || target.len() > limits.target_bytes_max {
        return None;
    }
    let rules = judge(head, method, target, parsed.headers, limits)?;
    let request = build(head, method, target, parsed.headers, &rules, room)?;
    let head = RequestHead {
        request,
        framing: rules.framing(),
        keep_alive: rules.keep_alive(),
        expects_continue: rules.expects_continue(),
        upgrade: rules.wants_upgrade(),
        is_named: rules.is_named(),
    };
    Some((head, consumed))
}

/// Applies the rules line by line, and finds line ends that are not CR LF.
fn judge(head: &[u8], method: &[u8], target: &[u8], fields: &[httparse::Header<'_>], limits: &Limits) -> Option<Rules> {
    let mut rules = Rules::default();
    let mut rest = head;
    let version_start = method.len() + target.len() + 2;
    let request_line = take_line(&mut rest, fields.first())?;
    Target::parse(method, target).ok()?;
    rules.version_of_line(request_line.get(version_start..)?).ok()?;
    for (index, field) in fields.iter().enumerate() {
        let line = take_line(&mut rest, fields.get(index + 1))?;
        let value = line.get(field.name.len() + 1..)?;
        rules.field(field.name.as_bytes(), value, target, limits).ok()?;
    }
    rules.finish().ok()?;
    debug_assert_eq!(rest, b"\r\n", "the line before ended in CR LF, so the empty line has two bytes");
    Some(rules)
}

fn build(
    head: &[u8],
    method: &[u8],
    target: &[u8],
    fields: &[httparse::Header<'_>],
    rules: &Rules,
    room: &mut HeaderMap,
) -> Option<Request<()>> {
    let shared = Bytes::copy_from_slice(head);
    let share = |part: &[u8]| {
        let start = part.as_ptr().addr() - head.as_ptr().addr();
        shared.slice(start..start + part.len())
    };
    let mut headers = std::mem::take(room);
    headers.reserve(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        debug_assert_eq!(octet::trim(field.value), field.value, "httparse trims values");
        let value = HeaderValue::from_maybe_shared(share(field.value)).ok()?;
        headers.append(name, value);
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::from_maybe_shared(share(target)).ok()?;
    *request.version_mut() = rules.version();
    *request.headers_mut() = headers;
    Some(request)
}
