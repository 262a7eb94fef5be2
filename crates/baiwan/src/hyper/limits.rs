//! The limits of heads, for requests that hyper has read.
//!
//! hyper has limits of its own, and all of them but the number of fields are greater. This is *not* where bytes are counted as they
//! come: hyper has parsed the head before it is judged here, and may have read more of it than the engine would have. White space around
//! the values of fields is gone by then, and does not count.

use baiwan_http1::{Limits, Refusal};
use http::{HeaderMap, Request, Uri};
use hyper::server::conn::http1;

/// Fields that hyper takes when nothing is said.
const HYPER_FIELDS_MAX: usize = 100;

/// Has hyper take as many fields as `limits` allow. Where it is told a number it allocates for each head.
pub(super) fn allow_fields(http: &mut http1::Builder, limits: &Limits) {
    if limits.fields_max > HYPER_FIELDS_MAX {
        http.max_headers(limits.fields_max);
    }
}

/// The limit that a head is beyond.
pub(super) fn beyond<T>(request: &Request<T>, limits: &Limits) -> Option<Refusal> {
    let target = target_bytes(request.uri());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    if target > limits.target_bytes_max {
        Some(Refusal::TargetTooLong)
    } else if request.headers().len() > limits.fields_max {
        Some(Refusal::FieldsTooMany)
    } else if line + field_bytes(request.headers()) + "\r\n".len() > limits.head_bytes_max {
        Some(Refusal::HeadTooLarge)
    } else {
        None
    }
}

fn target_bytes(target: &Uri) -> usize {
    let before = target.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = target.authority().map_or(0, |authority| authority.as_str().len());
    before + authority + target.path_and_query().map_or(0, |path| path.as_str().len())
}

fn field_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + ":\r\n".len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a head of this target and these fields, where `limit` is set by `set`.
    fn said(target: &str, set: impl FnOnce(&mut Limits)) -> Option<Refusal> {
        let mut limits = Limits::default();
        set(&mut limits);
        let request = Request::get(target).header("host", "a").header("b", "cd").body(()).unwrap();
        beyond(&request, &limits)
    }

    #[test]
    fn each_limit_holds_to_the_byte() {
        assert_eq!(said("/", |_| {}), None);
        let head = "GET /abc HTTP/1.1\r\nhost:a\r\nb:cd\r\n\r\n".len();
        assert_eq!(said("/abc", |limits| limits.head_bytes_max = head), None);
        assert_eq!(said("/abc", |limits| limits.head_bytes_max = head - 1), Some(Refusal::HeadTooLarge));
        for target in ["/abc?d", "http://a/b", "*"] {
            assert_eq!(said(target, |limits| limits.target_bytes_max = target.len()), None, "{target}");
            let one_less = |limits: &mut Limits| limits.target_bytes_max = target.len() - 1;
            assert_eq!(said(target, one_less), Some(Refusal::TargetTooLong), "{target}");
        }
        assert_eq!(said("/", |limits| limits.fields_max = 2), None);
        assert_eq!(said("/", |limits| limits.fields_max = 1), Some(Refusal::FieldsTooMany));
    }
}
