//! The fields of a user as callers write them, checked: what comes out of here the store takes as it is.
//!
//! [`UserFields`] is what the API's description says of them. Checks and description use the same constants.

use std::borrow::Cow;

use axum::body::Body;
use http::HeaderMap;
use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::body::{Members, json_object};
use super::email;
use crate::problem::{ERRORS_MAX, FieldError, Problem};
use crate::store::Fields;

/// The longest name, in characters.
const NAME_CHARACTERS_MAX: usize = 200;
/// No control characters (category Cc), and at least one character that is no white space (property White_Space), as an ECMA-262
/// regular expression.
const NAME_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028-\u2029\u202f\u205f\u3000][^\u0000-\u001f\u007f-\u009f]*$";

/// Reads and checks the fields in the body of a request.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Fields, Problem> {
    check(json_object(headers, body).await?)
}

/// Checks every member and reports all that are wrong at once.
fn check(Members(members): Members) -> Result<Fields, Problem> {
    let (mut name, mut email) = (None, None);
    let mut errors = Vec::new();
    for (member, value) in members {
        let checked = match &*member {
            "name" if name.is_none() => check_name(value).map(|valid| name = Some(valid)),
            "email" if email.is_none() => check_email(value).map(|valid| email = Some(valid)),
            "name" | "email" => Err("must be given once".to_owned()),
            _ => Err("is unknown; there are `name` and `email`".to_owned()),
        };
        if let Err(detail) = checked {
            errors.push(FieldError::new(shortened(&member), detail));
            if errors.len() == ERRORS_MAX {
                break;
            }
        }
    }
    let wrong = |field: &str| errors.iter().any(|error| error.field == field);
    match name {
        Some(name) if errors.is_empty() => Ok(Fields { name, email: email.flatten() }),
        None if !wrong("name") && errors.len() < ERRORS_MAX => {
            errors.push(FieldError::new("name", "is missing"));
            Err(Problem::WrongFields(errors))
        }
        _ => Err(Problem::WrongFields(errors)),
    }
}

/// A member's name is the caller's and may be long.
fn shortened(member: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    member.chars().take(CHARACTERS_MAX).collect()
}

fn check_name(value: Value) -> Result<String, String> {
    let allowed = || {
        format!(
            "must be text of 1 to {NAME_CHARACTERS_MAX} characters, not all of them white space and none of them a control \
             character"
        )
    };
    let Value::String(name) = value else { return Err(allowed()) };
    let length = name.chars().take(NAME_CHARACTERS_MAX + 1).count();
    let is_blank = name.chars().all(char::is_whitespace);
    if length > NAME_CHARACTERS_MAX || is_blank || name.chars().any(char::is_control) {
        return Err(allowed());
    }
    Ok(name)
}

/// `null` is the same as no address.
fn check_email(value: Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(email) if email::is_address(&email) => Ok(Some(email)),
        _ => {
            let bytes_max = email::BYTES_MAX;
            Err(format!("must be an address like `ada@example.org` of at most {bytes_max} bytes, or null"))
        }
    }
}

/// The fields in the API's description. There is no such value.
pub(super) enum UserFields {}

impl PartialSchema for UserFields {
    fn schema() -> RefOr<Schema> {
        let name = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Unique, compared byte by byte; not only white space, and no control characters."))
            .min_length(Some(1))
            .max_length(Some(NAME_CHARACTERS_MAX))
            .pattern(Some(NAME_PATTERN));
        let email = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("What `<input type=email>` takes (WHATWG HTML). Absent and null are the same."))
            .max_length(Some(email::BYTES_MAX))
            .pattern(Some(email::PATTERN));
        ObjectBuilder::new()
            .description(Some("What a caller writes of a user."))
            .property("name", name)
            .required("name")
            .property("email", email)
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .examples([json!({"name": "Ada Lovelace", "email": "ada@example.org"})])
            .into()
    }
}

impl ToSchema for UserFields {
    fn name() -> Cow<'static, str> {
        "UserFields".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_fields(members: &[(&str, Value)]) -> Vec<String> {
        let members = members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match check(Members(members)) {
            Ok(_) => Vec::new(),
            Err(Problem::WrongFields(errors)) => errors.into_iter().map(|error| error.field).collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn characters_are_counted_and_none_is_a_control() {
        assert!(wrong_fields(&[("name", json!("百".repeat(NAME_CHARACTERS_MAX)))]).is_empty());
        assert!(wrong_fields(&[("name", json!(" \u{a0}\u{2028}\u{1f600}"))]).is_empty());
        for wrong in [
            json!("百".repeat(NAME_CHARACTERS_MAX + 1)),
            json!(""),
            json!(" "),
            json!("\u{a0}\u{2003} \u{3000}"),
            json!(null),
            json!(5),
        ] {
            assert_eq!(wrong_fields(&[("name", wrong)]), ["name"]);
        }
        for control in ['\0', '\n', '\u{1f}', '\u{7f}', '\u{80}', '\u{9f}'] {
            assert_eq!(wrong_fields(&[("name", json!(format!("a{control}")))]), ["name"], "{control:?}");
        }
    }

    /// The ranges of characters of which `is_so`, as they stand between the brackets of the pattern.
    fn ranges(is_so: impl Fn(char) -> bool) -> String {
        let of: Vec<u32> = ('\0'..=char::MAX).filter(|letter| is_so(*letter)).map(u32::from).collect();
        let ranges = of.chunk_by(|one, next| one + 1 == *next).map(|range| match *range {
            [only] => format!(r"\u{only:04x}"),
            [first, .., last] => format!(r"\u{first:04x}-\u{last:04x}"),
            [] => unreachable!("no range is empty"),
        });
        ranges.collect()
    }

    #[test]
    fn the_pattern_says_of_names_what_the_check_does() {
        let control = ranges(char::is_control);
        let neither = ranges(|letter| letter.is_control() || letter.is_whitespace());
        assert_eq!(NAME_PATTERN, format!("^[^{control}]*[^{neither}][^{control}]*$"));
    }

    #[test]
    fn a_member_given_twice_is_wrong_even_when_both_are_right() {
        assert_eq!(wrong_fields(&[("name", json!("a")), ("name", json!("a"))]), ["name"]);
        assert_eq!(wrong_fields(&[("email", json!(null)), ("name", json!("a")), ("email", json!(null))]), ["email"]);
    }
}
