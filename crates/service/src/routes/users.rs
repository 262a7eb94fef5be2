//! `/api/users`: list, create, show.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use serde::Serialize;
use serde_json::Value;

use super::Shared;
use super::body::{Members, json_object};
use crate::clock;
use crate::problem::{FieldError, Problem, json};
use crate::store::{NewUser, User};

/// Users on a page when the caller does not say.
const LIMIT_DEFAULT: u32 = 20;
/// The most users on a page.
const LIMIT_MAX: u32 = 100;
/// The longest name, in characters.
const NAME_CHARACTERS_MAX: usize = 200;
/// The longest e-mail address, in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const EMAIL_BYTES_MAX: usize = 254;
/// The most wrong fields that one answer names: a long body must not become a longer answer.
const ERRORS_MAX: usize = 8;

#[derive(Serialize)]
struct Page {
    users: Vec<User>,
    /// The `after` of the next page; `null` on the last one. Text, so that callers do not calculate with it.
    next: Option<String>,
}

pub(super) async fn list(core: Shared, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref().unwrap_or_default()).map_err(Problem::WrongParameter)?;
    // One more than asked for shows whether there is a next page.
    let mut users = core.store.users(query.after, query.limit + 1).await?;
    let more = users.len() > query.limit as usize;
    users.truncate(query.limit as usize);
    let next = users.last().filter(|_| more).map(|user| user.id.to_string());
    Ok(json(StatusCode::OK, "application/json", &Page { users, next }))
}

pub(super) async fn create(core: Shared, request: Request) -> Result<Response, Problem> {
    let user = new_user(json_object(request).await?)?;
    let user = core.store.insert_user(user).await?;
    let location = HeaderValue::try_from(format!("/api/users/{}", user.id)).expect("digits are a header value");
    Ok(([(LOCATION, location)], json(StatusCode::CREATED, "application/json", &user)).into_response())
}

pub(super) async fn show(core: Shared, id: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let id = id.ok().and_then(|Path(id)| id_of(&id)).ok_or(Problem::NotFound)?;
    let user = core.store.user(id).await?.ok_or(Problem::NotFound)?;
    Ok(json(StatusCode::OK, "application/json", &user))
}

/// An id has one spelling: digits.
fn id_of(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[derive(Debug, PartialEq, Eq)]
struct Query {
    limit: u32,
    after: i64,
}

impl Query {
    /// Unknown parameters are let pass: caches and trackers add their own.
    fn parse(query: &str) -> Result<Self, FieldError> {
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
    id_of(text)
        .and_then(|limit| u32::try_from(limit).ok())
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or_else(|| FieldError::new("limit", format!("must be a whole number from 1 to {LIMIT_MAX}")))
}

fn after_of(text: &str) -> Result<i64, FieldError> {
    id_of(text).ok_or_else(|| FieldError::new("after", "must be the `next` of a page"))
}

/// Checks every member and reports all that are wrong at once.
fn new_user(Members(members): Members) -> Result<NewUser, Problem> {
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
        Some(name) if errors.is_empty() => {
            Ok(NewUser { name, email: email.flatten(), created_at: clock::now_rfc3339() })
        }
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
    let allowed = || format!("must be text of 1 to {NAME_CHARACTERS_MAX} characters without control characters");
    let Value::String(name) = value else { return Err(allowed()) };
    let length = name.chars().take(NAME_CHARACTERS_MAX + 1).count();
    if !(1..=NAME_CHARACTERS_MAX).contains(&length) || name.chars().any(char::is_control) {
        return Err(allowed());
    }
    Ok(name)
}

/// `null` is the same as no address. Only mail that arrives proves an address; here it must merely look like one.
fn check_email(value: Value) -> Result<Option<String>, String> {
    let allowed = || format!("must be an address like `ada@example.org` of at most {EMAIL_BYTES_MAX} bytes, or null");
    let email = match value {
        Value::Null => return Ok(None),
        Value::String(email) => email,
        _ => return Err(allowed()),
    };
    let parts = email.split_once('@');
    let shaped = parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    let clean = !email.chars().any(|character| character.is_control() || character.is_whitespace());
    if shaped && clean && email.len() <= EMAIL_BYTES_MAX { Ok(Some(email)) } else { Err(allowed()) }
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
            ("limit=99999999999999999999", "limit"),
            ("limit=5&limit=6", "limit"),
            ("after=x", "after"),
            ("after=", "after"),
            ("after=-1", "after"),
        ] {
            assert_eq!(Query::parse(query).unwrap_err().field, field, "{query}");
        }
    }
}
