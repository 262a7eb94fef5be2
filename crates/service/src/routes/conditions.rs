//! Entity tags and the conditions that are made of them: `ETag`, `If-Match`, `If-None-Match` (RFC 9110, sections 8.8.3
//! and 13.1).
//!
//! A user's tag is the version in quotes, and strong: the same version is the same bytes for ever. Several fields of one
//! name are one list. A condition that cannot be read is refused where it guards a change; where it only saves
//! the sending of what the caller has already, it is ignored, because a whole answer is never wrong.

use http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use crate::problem::{Problem, Unmet};
use crate::store::{Condition, StoreError};

/// What `If-Match` and `If-None-Match` may be, as an ECMA-262 regular expression: `*`, or a list with at least one tag, in
/// which empty elements are let pass (RFC 9110, section 5.6.1.2).
pub(super) const PATTERN: &str =
    r#"^(?:\*|[ \t,]*(?:W/)?"[!#-~\u0080-\u00ff]*"(?:[ \t]*,[ \t]*(?:(?:W/)?"[!#-~\u0080-\u00ff]*")?)*[ \t]*)$"#;

const ALLOWED: &str = "must be `*`, or entity tags as `ETag` gives them, such as \"3\", separated by commas";

/// Digits of the longest number, and two quotes.
const ETAG_BYTES_MAX: usize = 22;

/// The `ETag` of a user's version.
pub(super) fn etag(version: i64) -> HeaderValue {
    let mut text = [b'"'; ETAG_BYTES_MAX];
    let mut start = ETAG_BYTES_MAX - 1;
    let mut rest = version.unsigned_abs();
    loop {
        start -= 1;
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[start - 1..]).expect("digits and quotes are a header value")
}

/// The version that a tag of ours names. It has one spelling.
fn version_of(opaque: &[u8]) -> Option<i64> {
    let canonical = opaque.iter().all(u8::is_ascii_digit) && !opaque.starts_with(b"0");
    std::str::from_utf8(opaque).ok().filter(|_| canonical)?.parse().ok()
}

/// What a request demands of the user that it changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demands {
    /// For the store, which looks at it together with the change.
    pub(super) condition: Condition,
    /// What to blame if it does not hold.
    unmet: Unmet,
}

impl Demands {
    /// `If-Match` and `If-None-Match` as one (RFC 9110, section 13.2.2: both must hold).
    pub(super) fn of_change(headers: &HeaderMap) -> Result<Self, Problem> {
        let wanted = if_match(headers)?;
        let malformed = |Malformed| Problem::MalformedHeader { name: "If-None-Match", allowed: ALLOWED };
        let (condition, unmet) = match (wanted, tags(headers, &IF_NONE_MATCH).map_err(malformed)?) {
            (wanted, None) => (wanted, Unmet::IF_MATCH),
            // Whoever exists has some version. What names one in both is at fault in one.
            (Condition::Any, Some(Tags::Any)) => (Condition::Versions(Vec::new()), Unmet::IF_NONE_MATCH),
            (_, Some(Tags::Any)) => (Condition::Versions(Vec::new()), Unmet::EITHER),
            (Condition::Versions(mut wanted), Some(Tags::These(unwanted))) => {
                wanted.retain(|version| !unwanted.iter().any(|tag| version_of(tag.opaque) == Some(*version)));
                (Condition::Versions(wanted), Unmet::EITHER)
            }
            (_, Some(Tags::These(unwanted))) => {
                let versions = unwanted.iter().filter_map(|tag| version_of(tag.opaque)).collect();
                (Condition::NoneOf(versions), Unmet::IF_NONE_MATCH)
            }
        };
        Ok(Self { condition, unmet })
    }

    /// What the store's answer to the change means for the caller.
    pub(super) fn problem(&self, error: StoreError) -> Problem {
        match error {
            StoreError::ConditionFailed => Problem::ConditionFailed(self.unmet),
            error => error.into(),
        }
    }
}

/// What a field says.
#[derive(Debug, PartialEq, Eq)]
enum Tags<'a> {
    /// `*`: any there is.
    Any,
    /// At least one.
    These(Vec<Tag<'a>>),
}

/// An entity tag; `opaque` is what stands between the quotes.
#[derive(Debug, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

/// `If-Match` of a request, by strong comparison: a weak tag, or one that is not ours, never matches.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Condition, Problem> {
    match tags(headers, &IF_MATCH) {
        Ok(None | Some(Tags::Any)) => Ok(Condition::Any),
        Ok(Some(Tags::These(tags))) => {
            let strong = tags.iter().filter(|tag| !tag.weak);
            Ok(Condition::Versions(strong.filter_map(|tag| version_of(tag.opaque)).collect()))
        }
        Err(Malformed) => Err(Problem::MalformedHeader { name: "If-Match", allowed: ALLOWED }),
    }
}

/// Whether the caller of a read has what `etag` names already, by weak comparison (RFC 9110, section 8.8.3.2).
pub(super) fn has_already(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    match tags(headers, &IF_NONE_MATCH) {
        Ok(Some(Tags::Any)) => true,
        Ok(Some(Tags::These(tags))) => {
            let opaque = read_tag(etag.as_bytes()).map(|(tag, _)| tag.opaque);
            tags.iter().any(|tag| Some(tag.opaque) == opaque)
        }
        Ok(None) | Err(Malformed) => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Malformed;

fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Tags<'a>>, Malformed> {
    let mut fields = headers.get_all(name).iter();
    let Some(first) = fields.next() else { return Ok(None) };
    if first.as_bytes() == b"*" {
        return if fields.next().is_none() { Ok(Some(Tags::Any)) } else { Err(Malformed) };
    }
    let mut tags = Vec::new();
    for field in headers.get_all(name).iter() {
        read_list(field.as_bytes(), &mut tags).ok_or(Malformed)?;
    }
    if tags.is_empty() { Err(Malformed) } else { Ok(Some(Tags::These(tags))) }
}

/// Adds the tags of one field to those of the fields before it.
fn read_list<'a>(mut rest: &'a [u8], tags: &mut Vec<Tag<'a>>) -> Option<()> {
    loop {
        rest = without_space(rest);
        if !matches!(rest, [] | [b',', ..]) {
            let (tag, after) = read_tag(rest)?;
            tags.push(tag);
            rest = without_space(after);
        }
        match rest {
            [] => return Some(()),
            [b',', after @ ..] => rest = after,
            _ => return None,
        }
    }
}

/// Reads one tag, and says what follows it.
fn read_tag(bytes: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let weak = bytes.strip_prefix(b"W/");
    let quoted = weak.unwrap_or(bytes).strip_prefix(b"\"")?;
    let (opaque, after) = quoted.split_at(quoted.iter().position(|&byte| byte == b'"')?);
    let is_opaque = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
    opaque.iter().all(is_opaque).then(|| (Tag { weak: weak.is_some(), opaque }, &after[1..]))
}

fn without_space(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    &bytes[start.unwrap_or(bytes.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(name.clone(), HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        headers
    }

    fn versions(fields: &[&str]) -> Option<Condition> {
        if_match(&headers(IF_MATCH, fields)).ok()
    }

    #[test]
    fn a_tag_is_the_version_in_quotes() {
        for (version, tag) in [(1, "\"1\""), (10, "\"10\""), (i64::MAX, "\"9223372036854775807\"")] {
            assert_eq!(etag(version), tag);
            assert_eq!(version_of(&tag.as_bytes()[1..tag.len() - 1]), Some(version));
        }
        for other in ["", "0", "01", "+1", "-1", "1 ", "9223372036854775808", "a"] {
            assert_eq!(version_of(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn if_match_is_any_or_the_versions_of_strong_tags() {
        assert_eq!(versions(&[]), Some(Condition::Any));
        assert_eq!(versions(&["*"]), Some(Condition::Any));
        let names = |fields: &[&str], expected: &[i64]| {
            assert_eq!(versions(fields), Some(Condition::Versions(expected.to_vec())), "{fields:?}");
        };
        names(&["\"3\""], &[3]);
        names(&["\"3\", \"4\""], &[3, 4]);
        names(&["\"3\"", "\"4\""], &[3, 4]);
        names(&[" ,\t,\"3\" ,, \"4\" ,"], &[3, 4]);
        names(&["", "\"3\""], &[3]);
        names(&["W/\"3\""], &[]);
        names(&["W/\"3\", \"4\""], &[4]);
        names(&["\"somebody's\""], &[]);
        names(&["\"\""], &[]);
        names(&["\"03\""], &[]);
        names(&["\"a,b\", \"4\""], &[4]);
        names(&["\"é!#~\", \"4\""], &[4]);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for fields in [
            &[""][..],
            &[","],
            &["3"],
            &["\"3"],
            &["3\""],
            &["\"3\" \"4\""],
            &["\"3\"; \"4\""],
            &["w/\"3\""],
            &["W/ \"3\""],
            &["W/3"],
            &["\"a b\""],
            &["**"],
            &["*, \"3\""],
            &["\"3\", *"],
            &["*", "\"3\""],
            &["\"3\"", "*"],
            &["*", "*"],
            &["*", ""],
        ] {
            assert_eq!(versions(fields), None, "{fields:?}");
            assert!(Demands::of_change(&headers(IF_NONE_MATCH, fields)).is_err(), "{fields:?}");
            assert!(!has_already(&headers(IF_NONE_MATCH, fields), &etag(3)), "{fields:?}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert!(!has_already(&HeaderMap::new(), &etag(3)));
        let knows = |fields: &[&str]| {
            let headers = headers(IF_NONE_MATCH, fields);
            let known = has_already(&headers, &etag(3));
            assert_eq!(!Demands::of_change(&headers).unwrap().condition.holds(3), known, "{fields:?}");
            known
        };
        assert!(knows(&["*"]));
        assert!(knows(&["\"3\""]));
        assert!(knows(&["W/\"3\""]));
        assert!(knows(&["\"2\", W/\"3\""]));
        assert!(knows(&["\"2\"", "\"3\""]));
        assert!(!knows(&["\"2\""]));
        assert!(!knows(&["W/\"33\""]));
    }

    #[test]
    fn both_conditions_of_a_change_must_hold_and_what_failed_is_named() {
        let of = |if_match: &[&str], if_none_match: &[&str]| {
            let mut both = headers(IF_MATCH, if_match);
            both.extend(headers(IF_NONE_MATCH, if_none_match));
            let Demands { condition, unmet } = Demands::of_change(&both).unwrap();
            (condition, unmet)
        };
        let (none_of, one_of) =
            (|tags: &[i64]| Condition::NoneOf(tags.into()), |tags: &[i64]| Condition::Versions(tags.into()));
        assert_eq!(of(&[], &[]), (Condition::Any, Unmet::IF_MATCH));
        assert_eq!(of(&["\"3\""], &[]), (one_of(&[3]), Unmet::IF_MATCH));
        assert_eq!(of(&[], &["*"]), (one_of(&[]), Unmet::IF_NONE_MATCH));
        assert_eq!(of(&["*"], &["\"3\", W/\"4\", \"x\""]), (none_of(&[3, 4]), Unmet::IF_NONE_MATCH));
        assert_eq!(of(&["\"3\", \"4\""], &["W/\"3\""]), (one_of(&[4]), Unmet::EITHER));
        assert_eq!(of(&["\"3\""], &["*"]), (one_of(&[]), Unmet::EITHER));
    }
}
