//! Reading a JSON object from a request: media type, size, syntax, in this order, so that nothing is read in vain.
//!
//! The members come back as a list in the order of the text, because a member that is given twice must be seen to be
//! refused; what they may be is the caller's business.

use std::fmt;

use axum::body::Body;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::problem::Problem;

/// The longest JSON body, in bytes.
pub const JSON_BODY_MAX: usize = 1 << 20;

/// The members of a JSON object, as written.
pub(super) struct Members(pub(super) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsWritten;
        impl<'de> Visitor<'de> for AsWritten {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(AsWritten)
    }
}

/// Reads the body of a request with these `headers` as a JSON object.
pub(super) async fn json_object(headers: &HeaderMap, body: Body) -> Result<Members, Problem> {
    expect_json(headers)?;
    let bytes = read_to_end(body).await?;
    // Nesting is bounded by serde_json, at 128 levels.
    serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::NotAnObject,
        _ => Problem::MalformedJson(error.to_string()),
    })
}

async fn read_to_end(body: Body) -> Result<bytes::Bytes, Problem> {
    const TOO_LARGE: Problem = Problem::BodyTooLarge(JSON_BODY_MAX);
    if body.size_hint().lower() > JSON_BODY_MAX as u64 {
        return Err(TOO_LARGE);
    }
    match Limited::new(body, JSON_BODY_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(TOO_LARGE),
        Err(_) => Err(Problem::IncompleteBody),
    }
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    const TYPE: Problem = Problem::UnsupportedMediaType("The content type must be application/json, in UTF-8.");
    const CODING: Problem = Problem::UnsupportedMediaType("The body must be sent without a content coding.");
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else { return Err(TYPE) };
    if !media_type.to_str().is_ok_and(is_json) {
        return Err(TYPE);
    }
    let is_identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().all(is_identity) { Ok(()) } else { Err(CODING) }
}

/// `application/json` or `application/*+json`, with any parameters as long as a charset is UTF-8.
fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    let is_json = subtype == "json" || subtype.strip_suffix("+json").is_some_and(|name| !name.is_empty());
    is_json
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_many_names() {
        for right in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/merge-patch+json",
            "application/vnd.api+json; v=1",
        ] {
            assert!(is_json(right), "{right}");
        }
        for wrong in [
            "",
            "text/json",
            "application/+json",
            "application/jsonx",
            "application/json; charset=latin1",
            "application/json, text/plain",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(wrong), "{wrong}");
        }
    }
}
