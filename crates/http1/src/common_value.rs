//! Values that fields of requests commonly have, in static memory: no part of the head is shared for them, and none of their bytes
//! checked again.
//!
//! Not a list of what is allowed or understood. A value is looked for among those of its own field alone, so that one which can
//! be anything costs a branch.

use http::HeaderValue;

use crate::field_name::KnownName;

macro_rules! values {
    ($($name:ident: $($text:literal),+;)+) => {
        /// `value`, if it is a common one of the field called `name`.
        #[inline]
        pub(crate) fn common_value(name: KnownName, value: &[u8]) -> Option<HeaderValue> {
            match name {
                $(KnownName::$name => {
                    $(if value == $text.as_bytes() {
                        return Some(const { HeaderValue::from_static($text) });
                    })+
                    None
                })+
                _ => None,
            }
        }

        #[cfg(test)]
        const COMMON: &[(KnownName, &[&str])] = &[$((KnownName::$name, &[$($text),+]),)+];
    };
}

values! {
    Accept: "*/*";
    AcceptEncoding: "gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "gzip";
    CacheControl: "no-cache", "max-age=0";
    Connection: "keep-alive", "Keep-Alive", "close", "Upgrade";
    ContentType: "application/json", "application/x-www-form-urlencoded";
    Expect: "100-continue";
    Pragma: "no-cache";
    SecChUaMobile: "?0", "?1";
    SecFetchDest: "empty", "document", "script", "style", "image";
    SecFetchMode: "cors", "no-cors", "navigate", "same-origin";
    SecFetchSite: "same-origin", "same-site", "cross-site", "none";
    SecFetchUser: "?1";
    Te: "trailers";
    TransferEncoding: "chunked";
    Upgrade: "websocket";
    UpgradeInsecureRequests: "1";
    XForwardedProto: "https", "http";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_value_is_the_one_that_was_sent() {
        for &(name, texts) in COMMON {
            for text in texts {
                assert_eq!(common_value(name, text.as_bytes()), Some(HeaderValue::from_static(text)));
                for other in [text.to_ascii_uppercase(), format!("{text} "), text[1..].to_owned(), String::new()] {
                    let is_common = texts.contains(&&other[..]);
                    assert_eq!(common_value(name, other.as_bytes()).is_some(), is_common, "{other}");
                }
            }
        }
    }
}
