//! The names of fields that requests commonly have, each recognised once: by the rules, and for the map of fields.
//!
//! Not a list of what is allowed: any other name is as good, it only costs more. Recognition is a perfect hash of the first and
//! the last eight bytes, which the compiler checks, and a comparison in words. Invariant: a name is recognised if
//! and only if it equals one of these but for the case of its letters.

use http::header::HeaderName;

use crate::word::{self, WORD_LENGTH};

/// The longest name here: two words at its start and two at its end, which may overlap, cover it.
const LENGTH_MAX: usize = 4 * WORD_LENGTH;

macro_rules! names {
    ($($name:ident = $text:literal,)+) => {
        /// A name that is recognised.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum KnownName {
            $(#[doc = $text] $name,)+
        }

        impl KnownName {
            /// All of them, in the order of their discriminants.
            const ALL: &[KnownName] = &[$(KnownName::$name,)+];
            /// In lower case.
            const TEXTS: &[&str] = &[$($text,)+];
        }

        static HEADER_NAMES: [HeaderName; KnownName::ALL.len()] = [$(HeaderName::from_static($text),)+];
    };
}

names! {
    // Those that have a rule come first.
    Connection = "connection",
    ContentLength = "content-length",
    Expect = "expect",
    Host = "host",
    TransferEncoding = "transfer-encoding",
    Traceparent = "traceparent",
    Upgrade = "upgrade",
    XRequestId = "x-request-id",
    // And those that have none.
    Accept = "accept",
    AcceptCharset = "accept-charset",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AccessControlRequestHeaders = "access-control-request-headers",
    AccessControlRequestMethod = "access-control-request-method",
    Authorization = "authorization",
    Baggage = "baggage",
    CacheControl = "cache-control",
    ContentEncoding = "content-encoding",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Dnt = "dnt",
    Forwarded = "forwarded",
    IdempotencyKey = "idempotency-key",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastEventId = "last-event-id",
    Origin = "origin",
    Pragma = "pragma",
    Priority = "priority",
    ProxyConnection = "proxy-connection",
    Range = "range",
    Referer = "referer",
    SecChUa = "sec-ch-ua",
    SecChUaMobile = "sec-ch-ua-mobile",
    SecChUaPlatform = "sec-ch-ua-platform",
    SecFetchDest = "sec-fetch-dest",
    SecFetchMode = "sec-fetch-mode",
    SecFetchSite = "sec-fetch-site",
    SecFetchUser = "sec-fetch-user",
    SecGpc = "sec-gpc",
    SecWebsocketExtensions = "sec-websocket-extensions",
    SecWebsocketKey = "sec-websocket-key",
    SecWebsocketProtocol = "sec-websocket-protocol",
    SecWebsocketVersion = "sec-websocket-version",
    Te = "te",
    Tracestate = "tracestate",
    UpgradeInsecureRequests = "upgrade-insecure-requests",
    UserAgent = "user-agent",
    Via = "via",
    XApiKey = "x-api-key",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
    XRequestedWith = "x-requested-with",
}

impl KnownName {
    /// The one that `name` equals but for the case of its letters.
    #[inline]
    pub(crate) fn of(name: &[u8]) -> Option<KnownName> {
        KnownName::of_start(word::first(name), name)
    }

    /// The same, where `start` is known: the eight bytes from the start of the name on, whatever follows it.
    #[inline]
    pub(crate) fn of_start(start: u64, name: &[u8]) -> Option<KnownName> {
        let (first, last) = match name.last_chunk() {
            Some(last) => (start, u64::from_le_bytes(*last)),
            None => (word::cut(start, name.len()), word::cut(start, name.len())),
        };
        let known = SLOTS[slot_of(first, last)]?;
        let entry = &ENTRIES[known as usize];
        let is_same = name.len() == usize::from(entry.length)
            && entry.first.is_same(first)
            && entry.last.is_same(last)
            && (name.len() <= 2 * WORD_LENGTH || entry.is_same_inside(name));
        is_same.then_some(known)
    }

    /// Whether the rules look at the field's value.
    #[inline]
    pub(crate) fn has_rule(self) -> bool {
        self as u8 <= KnownName::XRequestId as u8
    }

    /// As the map of fields has it.
    #[inline]
    pub(crate) fn header_name(self) -> HeaderName {
        HEADER_NAMES[self as usize].clone()
    }
}

/// Eight bytes of a name.
#[derive(Clone, Copy)]
struct Part {
    /// In lower case.
    bytes: u64,
    /// The bit that makes a letter of upper case one of lower case, where there is a letter. It would make other bytes of others,
    /// as a hyphen of CR.
    letters: u64,
}

impl Part {
    const fn of(bytes: u64) -> Part {
        let mut letters = 0;
        let mut index = 0;
        while index < WORD_LENGTH {
            if (bytes >> (8 * index)).to_le_bytes()[0].is_ascii_lowercase() {
                letters |= 0x20 << (8 * index);
            }
            index += 1;
        }
        Part { bytes, letters }
    }

    #[inline]
    fn is_same(self, bytes: u64) -> bool {
        bytes | self.letters == self.bytes
    }
}

/// A name in the form in which it is compared.
struct Entry {
    length: u8,
    /// Bytes 0 to 7, with zeros after a shorter name.
    first: Part,
    /// The last 8, or as `first`.
    last: Part,
    /// Of names that are longer than two words: bytes 8 to 15, and those before the last 8.
    inside: [Part; 2],
}

impl Entry {
    const fn of(name: &[u8]) -> Entry {
        assert!(name.len() <= LENGTH_MAX);
        let last = if name.len() < WORD_LENGTH { 0 } else { name.len() - WORD_LENGTH };
        let inside = if name.len() <= 2 * WORD_LENGTH {
            [Part::of(0), Part::of(0)]
        } else {
            [Part::of(word::at(name, WORD_LENGTH)), Part::of(word::at(name, last - WORD_LENGTH))]
        };
        Entry {
            length: name.len() as u8,
            first: Part::of(word::at(name, 0)),
            last: Part::of(word::at(name, last)),
            inside,
        }
    }

    fn is_same_inside(&self, name: &[u8]) -> bool {
        let after_first = name.get(WORD_LENGTH..).and_then(<[u8]>::first_chunk);
        let before_last = name.get(..name.len() - WORD_LENGTH).and_then(<[u8]>::last_chunk);
        let is_same = |part: Part, bytes: Option<&[u8; WORD_LENGTH]>| {
            bytes.is_some_and(|bytes| part.is_same(u64::from_le_bytes(*bytes)))
        };
        is_same(self.inside[0], after_first) && is_same(self.inside[1], before_last)
    }
}

static ENTRIES: [Entry; KnownName::ALL.len()] = {
    let mut entries = [const { Entry::of(b"") }; KnownName::ALL.len()];
    let mut index = 0;
    while index < entries.len() {
        entries[index] = Entry::of(KnownName::TEXTS[index].as_bytes());
        index += 1;
    }
    entries
};

const SLOTS_BITS: u32 = 8;
/// Where a name may stand, if it is one that is known.
type Slots = [Option<KnownName>; 1 << SLOTS_BITS];

/// Where a name stands in [`SLOTS`]. Letters count without their case.
#[inline]
const fn slot_of(first: u64, last: u64) -> usize {
    let mixed = (first | word::repeat(0x20)) ^ (last | word::repeat(0x20)).rotate_left(29);
    (mixed.wrapping_mul(MULTIPLIER) >> (u64::BITS - SLOTS_BITS)) as usize
}

/// A multiplier for which no two names share a slot. With another list it is to be another odd number: try some.
const MULTIPLIER: u64 = 0x6e72_088f_081f_3df5;

static SLOTS: Slots = {
    let mut slots = [None; 1 << SLOTS_BITS];
    let mut index = 0;
    while index < ENTRIES.len() {
        let slot = slot_of(ENTRIES[index].first.bytes, ENTRIES[index].last.bytes);
        assert!(slots[slot].is_none(), "two names share a slot: another multiplier is needed");
        slots[slot] = Some(KnownName::ALL[index]);
        index += 1;
    }
    slots
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response_check::REQUEST_ID;

    #[test]
    fn each_name_is_recognised_in_letters_of_any_case() {
        for (&name, text) in KnownName::ALL.iter().zip(KnownName::TEXTS) {
            let upper = text.to_ascii_uppercase();
            let mixed: String = text
                .char_indices()
                .map(|(index, letter)| if index % 3 == 0 { letter.to_ascii_uppercase() } else { letter })
                .collect();
            for form in [text, &upper[..], &mixed] {
                assert_eq!(KnownName::of(form.as_bytes()), Some(name), "{form}");
                let followed = format!("{form}: value");
                assert_eq!(
                    KnownName::of_start(word::first(followed.as_bytes()), form.as_bytes()),
                    Some(name),
                    "{form}"
                );
                assert_eq!(HeaderName::from_bytes(form.as_bytes()).expect("valid"), name.header_name());
            }
        }
        assert_eq!(KnownName::of(REQUEST_ID.as_bytes()), Some(KnownName::XRequestId));
    }

    #[test]
    fn nothing_else_is_recognised() {
        for text in KnownName::TEXTS.iter().map(|text| text.as_bytes()) {
            for index in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut other = text.to_vec();
                    other[index] = byte;
                    assert_eq!(
                        KnownName::of(&other).is_some(),
                        other.eq_ignore_ascii_case(text),
                        "{}",
                        other.escape_ascii()
                    );
                }
            }
            let longer = |more: &[u8]| [text, more].concat();
            for other in [&text[1..], &text[..text.len() - 1], &longer(b"s"), &longer(b"\0"), &longer(text), b""] {
                let is_name = KnownName::TEXTS.iter().any(|text| other.eq_ignore_ascii_case(text.as_bytes()));
                assert_eq!(KnownName::of(other).is_some(), is_name, "{}", other.escape_ascii());
            }
        }
    }
}
