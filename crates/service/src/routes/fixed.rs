//! Answers that stay the same for as long as the process runs: pages, scripts, styles, the API's description.
//!
//! Each has a strong entity tag made of its bytes, and is asked for again each time (`no-cache`): a browser has the new version
//! after an update, and a 304 until then. What was packed with gzip at release time is sent so to whoever takes it. Here is also
//! the one place that says what a browser may do with a page.

use std::io::Read;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use sha2::{Digest, Sha256};

use super::{HandlerState, conditions};

/// What every page forbids: to be framed, to be opened beside by other sites, to send its address on, and devices.
const GUARDS: [(HeaderName, HeaderValue); 4] = [
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];

/// One such answer.
pub(super) struct Fixed {
    media_type: &'static str,
    /// The content security policy of a page; `None` for what is no page.
    policy: Option<&'static str>,
    source: Source,
    plain: OnceLock<Form>,
    packed: OnceLock<Form>,
}

enum Source {
    /// Made when it is first asked for.
    Made(fn() -> Bytes),
    /// Packed with gzip; unpacked when somebody asks who does not take that.
    Packed(&'static [u8]),
}

/// The bytes as they are sent, and their tag.
struct Form {
    bytes: Bytes,
    etag: HeaderValue,
}

impl Form {
    fn of(bytes: Bytes) -> Self {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let short = digest.iter().take(8).fold(0, |number, &byte| (number << 8) | u64::from(byte));
        let etag = HeaderValue::try_from(format!("\"{short:016x}\"")).expect("digits and quotes are a header value");
        Self { bytes, etag }
    }
}

impl Fixed {
    /// Something that programs read.
    pub(super) const fn new(media_type: &'static str, make: fn() -> Bytes) -> Self {
        Self::of(media_type, None, Source::Made(make))
    }

    /// A page with its content security policy.
    pub(super) const fn page(policy: &'static str, make: fn() -> Bytes) -> Self {
        Self::of("text/html; charset=utf-8", Some(policy), Source::Made(make))
    }

    /// Something that is kept packed with gzip.
    pub(super) const fn packed(media_type: &'static str, bytes: &'static [u8]) -> Self {
        Self::of(media_type, None, Source::Packed(bytes))
    }

    const fn of(media_type: &'static str, policy: Option<&'static str>, source: Source) -> Self {
        Self { media_type, policy, source, plain: OnceLock::new(), packed: OnceLock::new() }
    }

    /// Its route.
    pub(super) fn route(&'static self) -> MethodRouter<Arc<HandlerState>> {
        get(move |headers: HeaderMap| async move { self.answer(&headers) })
    }

    fn answer(&'static self, asked: &HeaderMap) -> Response {
        let (form, coding) = match self.source {
            Source::Made(make) => (self.plain.get_or_init(|| Form::of(make())), None),
            Source::Packed(bytes) if takes_gzip(asked) => {
                (self.packed.get_or_init(|| Form::of(Bytes::from_static(bytes))), Some("gzip"))
            }
            Source::Packed(bytes) => (self.plain.get_or_init(|| Form::of(unpacked(bytes))), None),
        };
        let mut response = Response::default();
        let headers = response.headers_mut();
        headers.insert(ETAG, form.etag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if matches!(self.source, Source::Packed(_)) {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if conditions::has_already(asked, &form.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        if let Some(policy) = self.policy {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            headers.extend(GUARDS);
        }
        *response.body_mut() = Body::from(form.bytes.clone());
        response
    }
}

fn unpacked(packed: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("what was packed into the binary can be unpacked");
    bytes.into()
}

/// Whether the caller names gzip, and not to forbid it (RFC 9110, section 12.5.3). `*` may mean anything.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let fields = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip =
            parts.next().is_some_and(|name| ["gzip", "x-gzip"].iter().any(|gzip| name.eq_ignore_ascii_case(gzip)));
        is_gzip && !parts.any(is_zero_weight)
    })
}

fn is_zero_weight(parameter: &str) -> bool {
    let zero = |value: &str| value.trim().bytes().all(|byte| matches!(byte, b'0' | b'.'));
    parameter.split_once('=').is_some_and(|(name, value)| name.trim().eq_ignore_ascii_case("q") && zero(value))
}

#[cfg(test)]
mod tests {
    use http::header::IF_NONE_MATCH;

    use super::*;

    static TEXT: Fixed = Fixed::new("text/plain", || Bytes::from_static(b"text"));
    static PAGE: Fixed = Fixed::page("default-src 'none'", || Bytes::from_static(b"page"));
    // `printf hello | gzip -9n`
    static HELLO: Fixed = Fixed::packed(
        "text/plain",
        b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0",
    );

    fn asking(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn gzip_is_sent_to_those_who_name_it() {
        for (value, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("x-gzip", true),
            ("gzip;q=1.0", true),
            ("gzip; q=0.001", true),
            ("gzip;q=0", false),
            ("gzip ; Q = 0.000", false),
            ("br, deflate", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&asking(ACCEPT_ENCODING, value)), takes, "{value}");
        }
        let packed = HELLO.answer(&asking(ACCEPT_ENCODING, "gzip"));
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        let plain = HELLO.answer(&HeaderMap::new());
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        assert_eq!(HELLO.plain.get().unwrap().bytes, "hello");
        for response in [&packed, &plain] {
            assert_eq!(response.headers()[VARY], "accept-encoding");
        }
        // A strong tag names bytes, and these are others.
        assert_ne!(packed.headers()[ETAG], plain.headers()[ETAG]);
    }

    #[test]
    fn what_the_caller_has_is_not_sent_again() {
        let whole = TEXT.answer(&HeaderMap::new());
        assert_eq!(whole.status(), StatusCode::OK);
        let etag = whole.headers()[ETAG].to_str().unwrap();
        let again = TEXT.answer(&asking(IF_NONE_MATCH, &format!("\"other\", {etag}")));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()[ETAG], etag);
        assert!(!again.headers().contains_key(CONTENT_TYPE));
        assert_eq!(TEXT.answer(&asking(IF_NONE_MATCH, "\"other\"")).status(), StatusCode::OK);
    }

    #[test]
    fn pages_are_guarded() {
        let page = PAGE.answer(&HeaderMap::new());
        assert_eq!(page.headers()[CONTENT_SECURITY_POLICY], "default-src 'none'");
        for (name, value) in GUARDS {
            assert_eq!(page.headers()[name], value);
        }
        assert!(!TEXT.answer(&HeaderMap::new()).headers().contains_key(CONTENT_SECURITY_POLICY));
    }
}
