//! `/api/users`: list, create, read, replace, delete.
//!
//! A single user goes out with the version as its entity tag, and may be kept by whoever asks again each time. A change is made
//! under the conditions of the request, which the store checks together with the change itself.

use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, RawQuery, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, ETAG, HeaderValue, LOCATION};
use http::request::Parts;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use utoipa::ToSchema;

use super::bearer::Writer;
use super::conditions::{self, Demands};
use super::description::{
    BodyTooLarge, BodyTooSlow, ConditionFailed, NameTaken, NoSuchUser, StoreUnavailable, Unauthorized, WrongFields,
    WrongMediaType, WrongParameter, WrongRequest,
};
use super::fields::{self, UserFields};
use super::paging::{Query, digits};
use super::parameters::{OfChange, OfCreate, OfList, OfRead};
use super::{HandlerState, Shared, idempotency};
use crate::clock;
use crate::problem::{Problem, Unmet, json};
use crate::store::{Change, User};

/// Bytes of a user's JSON beside name and address: member names, an id, a time.
const USER_BYTES_BESIDE: usize = 128;

/// A page of users.
#[derive(Serialize, ToSchema)]
struct Page {
    users: Vec<User>,
    /// The `after` of the next page; `null` on the last one. Text, so that callers do not calculate with it.
    #[schema(required = true)]
    next: Option<String>,
}

/// The users, a page at a time
///
/// In the order of their ids, which is that of their creation.
#[utoipa::path(
    get,
    path = "/api/users",
    operation_id = "list_users",
    tag = "users",
    params(OfList),
    responses((status = 200, description = "A page.", body = Page), WrongParameter, StoreUnavailable)
)]
pub(super) async fn list(core: Shared, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref().unwrap_or_default()).map_err(Problem::WrongParameter)?;
    // One more than asked for shows whether there is a next page.
    let mut users = core.store.users(query.after, query.limit + 1).await?;
    let more = users.len() > query.limit as usize;
    users.truncate(query.limit as usize);
    let next = users.last().filter(|_| more).map(|user| user.id.to_string());
    let room = users.iter().map(room_of).sum::<usize>() + USER_BYTES_BESIDE;
    Ok(current(json(StatusCode::OK, "application/json", room, &Page { users, next })))
}

/// Store a user
///
/// The name must be free. With an `Idempotency-Key` it is safe to ask again when the answer was lost.
#[utoipa::path(
    post,
    path = "/api/users",
    operation_id = "create_user",
    tag = "users",
    params(OfCreate),
    request_body(content = UserFields, content_type = "application/json"),
    responses(
        (
            status = 201,
            description = "The user as stored; the answer of the first time, if the key was used with these fields before.",
            body = User,
            headers(
                ("Location" = String, description = "The user's path."),
                ("ETag" = String, description = "The user's version.")
            ),
            links(
                ("read" = (operation_id = "read_user", parameters(("id" = "$response.body#/id")))),
                ("replace" = (operation_id = "replace_user", parameters(("id" = "$response.body#/id")))),
                ("delete" = (operation_id = "delete_user", parameters(("id" = "$response.body#/id"))))
            )
        ),
        WrongRequest, Unauthorized, BodyTooSlow, NameTaken, BodyTooLarge, WrongMediaType, WrongFields, StoreUnavailable
    ),
    security((), ("bearer" = []))
)]
pub(super) async fn create(_: Writer, core: Shared, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let key = idempotency::key(&head.headers)?;
    let fields = fields::read(&head.headers, body).await?;
    let change = Change::Create { fields, created_at: clock::now_rfc3339(), key };
    let user = core.store.apply(change).await?;
    let mut response = shown(StatusCode::CREATED, &user);
    response.headers_mut().insert(LOCATION, path_of(&user));
    Ok(response)
}

/// One user
#[utoipa::path(
    get,
    path = "/api/users/{id}",
    operation_id = "read_user",
    tag = "users",
    params(OfRead),
    responses(
        (
            status = 200,
            description = "The user.",
            body = User,
            headers(("ETag" = String, description = "The user's version."))
        ),
        (
            status = 304,
            description = "The user is as `If-None-Match` says.",
            headers(("ETag" = String, description = "The user's version."))
        ),
        WrongParameter, NoSuchUser, ConditionFailed, StoreUnavailable
    )
)]
pub(super) async fn read(core: Shared, UserId(id): UserId, request: Request) -> Result<Response, Problem> {
    let user = core.store.user(id).await?.ok_or(Problem::NoSuchUser)?;
    let headers = request.headers();
    if !conditions::if_match(headers)?.holds(user.version) {
        return Err(Problem::ConditionFailed(Unmet::IF_MATCH));
    }
    let etag = conditions::etag(user.version);
    if conditions::has_already(headers, &etag) {
        return Ok(current((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response()));
    }
    Ok(shown(StatusCode::OK, &user))
}

/// Replace what a caller may write of a user
///
/// The id and the time of creation stay; the version grows by one.
#[utoipa::path(
    put,
    path = "/api/users/{id}",
    operation_id = "replace_user",
    tag = "users",
    params(OfChange),
    request_body(content = UserFields, content_type = "application/json"),
    responses(
        (
            status = 200,
            description = "The user as stored.",
            body = User,
            headers(
                ("Content-Location" = String, description = "The user's path: the content is the user."),
                ("ETag" = String, description = "The user's new version.")
            )
        ),
        WrongRequest, Unauthorized, NoSuchUser, BodyTooSlow, NameTaken, ConditionFailed, BodyTooLarge, WrongMediaType,
        WrongFields, StoreUnavailable
    ),
    security((), ("bearer" = []))
)]
pub(super) async fn replace(
    _: Writer,
    core: Shared,
    UserId(id): UserId,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let fields = fields::read(&head.headers, body).await?;
    let demands = Demands::of_change(&head.headers)?;
    let change = Change::Replace { id, fields, condition: demands.condition.clone() };
    let user = core.store.apply(change).await.map_err(|error| demands.problem(error))?;
    let mut response = shown(StatusCode::OK, &user);
    // The answer is the user, not a report about the change (RFC 9110, section 8.7).
    response.headers_mut().insert(CONTENT_LOCATION, path_of(&user));
    Ok(response)
}

/// Delete a user
///
/// The id is not used again; the name is free.
#[utoipa::path(
    delete,
    path = "/api/users/{id}",
    operation_id = "delete_user",
    tag = "users",
    params(OfChange),
    responses(
        (status = 204, description = "There is no such user any more."),
        WrongParameter, Unauthorized, NoSuchUser, ConditionFailed, StoreUnavailable
    ),
    security((), ("bearer" = []))
)]
pub(super) async fn delete(
    _: Writer,
    core: Shared,
    UserId(id): UserId,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (head, _) = request.into_parts();
    let demands = Demands::of_change(&head.headers)?;
    let change = Change::Delete { id, condition: demands.condition.clone() };
    core.store.apply(change).await.map_err(|error| demands.problem(error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn path_of(user: &User) -> HeaderValue {
    HeaderValue::try_from(format!("/api/users/{}", user.id)).expect("digits are a header value")
}

fn shown(status: StatusCode, user: &User) -> Response {
    let mut response = current(json(status, "application/json", room_of(user), user));
    response.headers_mut().insert(ETAG, conditions::etag(user.version));
    response
}

/// May be kept, and asked for again each time.
fn current(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn room_of(user: &User) -> usize {
    user.name.len() + user.email.as_ref().map_or(0, String::len) + USER_BYTES_BESIDE
}

/// The id in a path. It is written in digits; anything else names nobody.
pub(super) struct UserId(i64);

impl FromRequestParts<Arc<HandlerState>> for UserId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<HandlerState>) -> Result<Self, Problem> {
        let id: Result<Path<Self>, PathRejection> = Path::from_request_parts(parts, core).await;
        id.map(|Path(id)| id).map_err(|_| Problem::NoSuchUser)
    }
}

/// From the path's own bytes: no text is made in between.
impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = UserId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("digits")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<UserId, E> {
                let id = digits(text).and_then(|id| i64::try_from(id).ok());
                id.map(UserId).ok_or_else(|| E::custom("no digits"))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}
