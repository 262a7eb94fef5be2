//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): how a caller names one creation, so that it can be asked for
//! again when the answer was lost.
//!
//! The draft has a quoted string of Structured Fields (RFC 9651, section 3.3.3); many clients send the bare text, which is taken
//! as well and names the same. What the key does is the store's business.

use http::{HeaderMap, HeaderName};

use crate::problem::Problem;
use crate::store::IdempotencyKey;

/// The name as it is looked up.
pub(super) const FIELD: HeaderName = HeaderName::from_static("idempotency-key");
/// The name as people write it.
pub(super) const NAME: &str = "Idempotency-Key";
/// What [`key`] takes, as an ECMA-262 regular expression: bare text that does not begin with a quote, or a quoted string.
pub(super) const PATTERN: &str = r#"^(?:[!#-~][!-~]{0,254}|"(?:[!#-\[\]-~]|\\["\\]){1,255}")$"#;

const MALFORMED: Problem = Problem::MalformedHeader {
    name: NAME,
    allowed: "must be given once, as 1 to 255 visible ASCII characters, quoted or not",
};

/// The key of a request, if it has one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut fields = headers.get_all(FIELD).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => read(field.as_bytes()).map(Some).ok_or(MALFORMED),
        (Some(_), Some(_)) => Err(MALFORMED),
    }
}

fn read(field: &[u8]) -> Option<IdempotencyKey> {
    let text = std::str::from_utf8(field).ok()?;
    match text.strip_prefix('"') {
        None => IdempotencyKey::parse(text),
        Some(rest) => IdempotencyKey::parse(&unquoted(rest)?),
    }
}

/// The text of a quoted string after its first quote; nothing may follow the last.
fn unquoted(rest: &str) -> Option<String> {
    let mut text = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(text),
            '\\' => text.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            character => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn key_of(fields: &[&str]) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FIELD, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        key(&headers).map(|key| key.map(|key| key.as_str().to_owned()))
    }

    #[test]
    fn a_key_is_quoted_or_bare() {
        assert_eq!(key_of(&[]), Ok(None));
        let longest = "x".repeat(255);
        for (field, expected) in [
            ("8e03978e-40d5-43dd", "8e03978e-40d5-43dd"),
            ("\"8e03978e-40d5-43dd\"", "8e03978e-40d5-43dd"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#"a"b\"#, r#"a"b\"#),
            ("a,b;c=1", "a,b;c=1"),
            (&*longest, &*longest),
            (&*format!("\"{longest}\""), &*longest),
        ] {
            assert_eq!(key_of(&[field]), Ok(Some(expected.to_owned())), "{field}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let too_long = "x".repeat(256);
        for wrong in [
            "",
            "a b",
            "\"",
            "\"\"",
            "\"a",
            "\"a b\"",
            "\"a\" ",
            "\"a\";p=1",
            "\"a\", \"b\"",
            "\"a\\",
            "\"a\\n\"",
            "é",
            "\"é\"",
            &too_long,
            &format!("\"{too_long}\""),
        ] {
            assert_eq!(key_of(&[wrong]), Err(MALFORMED), "{wrong}");
        }
        assert_eq!(key_of(&["a", "a"]), Err(MALFORMED), "two fields");
    }
}
