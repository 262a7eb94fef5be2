//! Which pages of other sites may read what the server answers by itself (CORS).
//!
//! An app has its own layer for its own answers; those of the server never come by there. Here are the fields that the server's
//! answers say it with. It is *not* an answer to a preflight: that is the app's.
//!
//! The invariant: with a list, the answer to a request whose head was read allows no origin that is not on it. One to a head that was
//! not read may allow all, and says nothing that is anybody's.

use http::header::{HeaderMap, HeaderValue, ORIGIN};

/// What a page may read of an answer beside what the browser lets it read anyway.
const EXPOSED: &[u8] = b"Retry-After, RateLimit, RateLimit-Policy, X-Request-Id";

/// Which pages of other sites may read what the server answers by itself: refusals, timeouts, failures. For an app's own answers there
/// is its own layer, such as `tower_http::cors::CorsLayer`. See [`Builder::refusal_cors`](crate::Builder::refusal_cors).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RefusalCors {
    /// None: nothing is added.
    #[default]
    Off,
    /// Those of any origin: `Access-Control-Allow-Origin: *`.
    Any,
    /// Those of these origins, each as a browser writes it into `Origin`, such as `https://app.example.org`. With an empty list nothing
    /// is added, as with [`Off`](Self::Off).
    Origins(Vec<HeaderValue>),
}

/// Where a request comes from, as far as the configured origins know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Origin {
    /// From nowhere that is listed.
    #[default]
    Other,
    /// From the origin at this place of the list.
    Listed(u32),
    /// Its head is not read.
    Unread,
}

/// The fields of one answer.
pub(crate) struct CorsFields<'a> {
    all: [(&'static str, &'a [u8]); 3],
    count: usize,
}

impl<'a> CorsFields<'a> {
    pub(crate) fn as_slice(&self) -> &[(&'static str, &'a [u8])] {
        &self.all[..self.count]
    }
}

impl RefusalCors {
    /// Whether nothing is added to any answer.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        match self {
            Self::Off => true,
            Self::Any => false,
            Self::Origins(listed) => listed.is_empty(),
        }
    }

    /// Where a request with these fields comes from; asked for each request where there is a list.
    #[inline]
    pub(crate) fn origin_of(&self, headers: &HeaderMap) -> Origin {
        let Self::Origins(listed) = self else { return Origin::Other };
        let Some(origin) = headers.get(ORIGIN) else { return Origin::Other };
        let place = listed.iter().position(|listed| listed == origin).and_then(|place| u32::try_from(place).ok());
        place.map_or(Origin::Other, Origin::Listed)
    }

    /// What an answer says to a request from there. Nobody can know yet where a request comes from whose head is not read: its answer
    /// names the one origin that is listed, else all, because it holds nothing that is anybody's.
    pub(crate) fn fields(&self, origin: Origin) -> CorsFields<'_> {
        const ALLOW: &str = "access-control-allow-origin";
        let expose = ("access-control-expose-headers", EXPOSED);
        let vary = ("vary", &b"Origin"[..]);
        let (all, count) = match (self, origin) {
            (Self::Off, _) => ([expose; 3], 0),
            (Self::Origins(listed), _) if listed.is_empty() => ([expose; 3], 0),
            (Self::Any, _) => ([(ALLOW, &b"*"[..]), expose, expose], 2),
            (Self::Origins(_), Origin::Other) => ([vary; 3], 1),
            (Self::Origins(listed), Origin::Listed(place)) => match listed.get(place as usize) {
                Some(listed) => ([(ALLOW, listed.as_bytes()), expose, vary], 3),
                None => ([vary; 3], 1),
            },
            (Self::Origins(listed), Origin::Unread) => {
                let allowed = if let [one] = &listed[..] { one.as_bytes() } else { b"*" };
                ([(ALLOW, allowed), expose, vary], 3)
            }
        };
        CorsFields { all, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer to a request with this `Origin`, or before its head is read, allows; and how many fields it has for that.
    fn allowed(cors: &RefusalCors, origin: Option<&'static str>, read: bool) -> (Option<String>, usize) {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        let origin = if read { cors.origin_of(&headers) } else { Origin::Unread };
        let fields = cors.fields(origin);
        let value = fields.as_slice().iter().find(|(name, _)| *name == "access-control-allow-origin");
        (value.map(|(_, value)| String::from_utf8_lossy(value).into_owned()), fields.as_slice().len())
    }

    #[test]
    fn an_answer_allows_the_origin_of_its_request_if_that_is_listed() {
        let list = |origins: &[&'static str]| {
            RefusalCors::Origins(origins.iter().map(|origin| HeaderValue::from_static(origin)).collect())
        };
        let (one, two) = (list(&["https://a.org"]), list(&["https://a.org", "https://b.org"]));
        let some = |origin: &str| Some(origin.to_owned());
        for (cors, origin, read, expected) in [
            (&RefusalCors::Off, Some("https://a.org"), true, (None, 0)),
            (&RefusalCors::Off, None, false, (None, 0)),
            (&list(&[]), Some("https://a.org"), true, (None, 0)),
            (&list(&[]), Some("https://a.org"), false, (None, 0)),
            (&RefusalCors::Any, Some("null"), true, (some("*"), 2)),
            (&RefusalCors::Any, None, false, (some("*"), 2)),
            (&two, Some("https://b.org"), true, (some("https://b.org"), 3)),
            (&two, Some("https://b.org.evil.test"), true, (None, 1)),
            (&two, None, true, (None, 1)),
            (&two, Some("https://b.org"), false, (some("*"), 3)),
            (&one, Some("https://b.org"), false, (some("https://a.org"), 3)),
        ] {
            assert_eq!(allowed(cors, origin, read), expected, "{cors:?} {origin:?} {read}");
        }
    }
}
