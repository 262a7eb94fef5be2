//! The query of a list: how many, and after which id. Pages are found by key, not by number, so that what is created or
//! deleted in between neither repeats nor hides anybody. One exception: PostgreSQL gives ids before it commits, so of users that are
//! created at the same moment a page may show a later id and not yet an earlier one.

use crate::problem::FieldError;

/// Users on a page when the caller does not say.
pub(super) const LIMIT_DEFAULT: u32 = 20;
/// The most users on a page.
pub(super) const LIMIT_MAX: u32 = 100;
/// What `after` may be, as an ECMA-262 regular expression.
pub(super) const AFTER_PATTERN: &str = "^[0-9]{1,19}$";
/// The most digits of `after`.
const AFTER_DIGITS_MAX: usize = 19;

/// What a caller of a list asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) limit: u32,
    pub(super) after: i64,
}

impl Query {
    /// Unknown parameters are let pass: caches and trackers add their own.
    pub(super) fn parse(query: &str) -> Result<Self, FieldError> {
        let (mut limit, mut after) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let seen = match &*name {
                "limit" => limit.replace(limit_of(&value)?).is_some(),
                "after" => after.replace(after_of(&value)?).is_some(),
                _ => false,
            };
            if seen {
                return Err(FieldError::new(name, "must be given once"));
            }
        }
        Ok(Self { limit: limit.unwrap_or(LIMIT_DEFAULT), after: after.unwrap_or(0) })
    }
}

fn limit_of(text: &str) -> Result<u32, FieldError> {
    digits(text)
        .and_then(|limit| u32::try_from(limit).ok())
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or_else(|| FieldError::new("limit", format!("must be a whole number from 1 to {LIMIT_MAX}")))
}

/// After a number that no id reaches there is nobody.
fn after_of(text: &str) -> Result<i64, FieldError> {
    digits(text)
        .filter(|_| text.len() <= AFTER_DIGITS_MAX)
        .map(|after| i64::try_from(after).unwrap_or(i64::MAX))
        .ok_or_else(|| FieldError::new("after", "must be the `next` of a page"))
}

/// A number that is written in digits alone.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_defaults_and_bounds() {
        assert_eq!(Query::parse(""), Ok(Query { limit: 20, after: 0 }));
        assert_eq!(Query::parse("limit=100&after=7&utm=x"), Ok(Query { limit: 100, after: 7 }));
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=", "limit"),
            ("limit=-1", "limit"),
            ("limit=%2B5", "limit"),
            ("limit=5.0", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("limit=5&limit=6", "limit"),
            ("after=x", "after"),
            ("after=", "after"),
            ("after=-1", "after"),
            ("after=1&after=1", "after"),
            ("after=00000000000000000001", "after"),
        ] {
            assert_eq!(Query::parse(query).unwrap_err().field, field, "{query}");
        }
    }

    #[test]
    fn after_goes_beyond_every_id() {
        for after in ["9223372036854775807", "9223372036854775808", "9999999999999999999"] {
            assert_eq!(Query::parse(&format!("after={after}")), Ok(Query { limit: 20, after: i64::MAX }), "{after}");
        }
    }
}
