//! Everything that can be wrong with a request, and its answer: a problem document (RFC 9457).
//!
//! One enum, one function that maps it to a status. A document tells the caller what to change and nothing about the
//! inside of the service. No cache may keep one: what is missing or taken now may be there or free a moment later.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::store::StoreError;

/// The media type of a problem document.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// Seconds after which a caller should try again when the store cannot take the request now.
pub const RETRY_AFTER_SECONDS: u64 = 1;
/// The most wrong fields that one answer names: a long body must not become a longer answer.
pub const ERRORS_MAX: usize = 8;

/// A part of the request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The member of the body, the parameter of the query or the field of the head.
    pub field: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl FieldError {
    /// `detail` says what is wrong with `field` and what is allowed.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// Which condition of a request does not hold. It is one of those that may be at fault, if there were two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// It may be `If-Match`.
    pub if_match: bool,
    /// It may be `If-None-Match`.
    pub if_none_match: bool,
}

impl Unmet {
    /// `If-Match`.
    pub const IF_MATCH: Self = Self { if_match: true, if_none_match: false };
    /// `If-None-Match`.
    pub const IF_NONE_MATCH: Self = Self { if_match: false, if_none_match: true };
    /// One of the two.
    pub const EITHER: Self = Self { if_match: true, if_none_match: true };

    fn errors(self) -> Vec<FieldError> {
        let if_match = "names no version that the user has now; a weak tag, such as W/\"3\", never does";
        let if_none_match = "names the version that the user has now, or is `*`";
        let mut errors = Vec::new();
        if self.if_match {
            errors.push(FieldError::new("If-Match", if_match));
        }
        if self.if_none_match {
            errors.push(FieldError::new("If-None-Match", if_none_match));
        }
        errors
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A parameter of the query is wrong.
    WrongParameter(FieldError),
    /// A field of the head is not what its grammar allows.
    MalformedHeader {
        /// The field's name, as people write it.
        name: &'static str,
        /// What is allowed; a clause that follows the name.
        allowed: &'static str,
    },
    /// The body is no JSON; the text says where.
    MalformedJson(String),
    /// The body broke off before its end.
    IncompleteBody,
    /// The operator's token is demanded.
    Unauthorized {
        /// There was one, and it is another.
        token_given: bool,
    },
    /// Nothing lives at this path.
    NotFound,
    /// The path is a user's, and there is no such user.
    NoSuchUser,
    /// The path exists, the method does not. The router adds `Allow`.
    MethodNotAllowed,
    /// Another user has the name.
    NameTaken,
    /// The user is not, or not any more, as the request demands.
    ConditionFailed(Unmet),
    /// The body is longer than this number of bytes.
    BodyTooLarge(usize),
    /// The body's type or coding is not one that is read here; the text says which are.
    UnsupportedMediaType(&'static str),
    /// JSON, but not what was asked for: no object at all.
    NotAnObject,
    /// JSON whose members are wrong; never empty.
    WrongFields(Vec<FieldError>),
    /// The idempotency key came with other fields before.
    KeyReused,
    /// The store cannot take the request now.
    StoreUnavailable(StoreError),
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// RFC 9457, section 4.2.1: the status says all there is to the type, and the title is its phrase.
const DOCUMENT_TYPE: &str = "about:blank";

impl Problem {
    /// The status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::WrongParameter(_) | Self::MalformedHeader { .. } | Self::MalformedJson(_) | Self::IncompleteBody => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::NoSuchUser => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NameTaken => StatusCode::CONFLICT,
            Self::ConditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAnObject | Self::WrongFields(_) | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::StoreUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::WrongParameter(error) => format!("The query parameter `{}` {}.", error.field, error.detail).into(),
            Self::MalformedHeader { name, allowed } => format!("The header field `{name}` {allowed}.").into(),
            Self::MalformedJson(reason) => format!("The body is not JSON: {reason}.").into(),
            Self::IncompleteBody => "The body ended before it was complete.".into(),
            Self::Unauthorized { token_given: false } => {
                "This needs the field `Authorization: Bearer` with the operator's token.".into()
            }
            Self::Unauthorized { token_given: true } => "The bearer token is not the operator's.".into(),
            Self::NotFound => "There is nothing at this path.".into(),
            Self::NoSuchUser => "There is no user with this id.".into(),
            Self::MethodNotAllowed => "This path has other methods; `Allow` lists them.".into(),
            Self::NameTaken => "Another user has this name.".into(),
            Self::ConditionFailed(unmet) => {
                let clauses: Vec<_> =
                    unmet.errors().iter().map(|error| format!("`{}` {}", error.field, error.detail)).collect();
                format!("{}. Nothing was changed. Read the user again.", clauses.join("; or ")).into()
            }
            Self::BodyTooLarge(bytes_max) => format!("The body is longer than {bytes_max} bytes.").into(),
            Self::UnsupportedMediaType(reason) => (*reason).into(),
            Self::NotAnObject => "The body must be a JSON object.".into(),
            Self::WrongFields(errors) => {
                let sentences: Vec<_> =
                    errors.iter().map(|error| format!("The field `{}` {}.", error.field, error.detail)).collect();
                sentences.join(" ").into()
            }
            Self::KeyReused => {
                "The `Idempotency-Key` came with other fields before; nothing was stored. Use a new key for a new user."
                    .into()
            }
            Self::StoreUnavailable(StoreError::QueueFull) => {
                "Too many requests are waiting for the store; nothing was stored. Try again.".into()
            }
            Self::StoreUnavailable(_) => {
                "The store does not answer at the moment. Try again. If this was a change, it may have been made all the \
                 same; an `Idempotency-Key` keeps a user from being stored twice."
                    .into()
            }
        }
    }

    fn errors(&self) -> Vec<FieldError> {
        match self {
            Self::WrongParameter(error) => vec![error.clone()],
            Self::MalformedHeader { name, allowed } => vec![FieldError::new(*name, *allowed)],
            Self::WrongFields(errors) => errors.clone(),
            Self::NoSuchUser => vec![FieldError::new("id", "is no user's")],
            Self::ConditionFailed(unmet) => unmet.errors(),
            Self::NameTaken => vec![FieldError::new("name", "is taken")],
            Self::KeyReused => vec![FieldError::new("Idempotency-Key", "was used with other fields")],
            _ => Vec::new(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameTaken => Self::NameTaken,
            StoreError::NoSuchUser => Self::NoSuchUser,
            StoreError::ConditionFailed => Self::ConditionFailed(Unmet::EITHER),
            StoreError::KeyReused => Self::KeyReused,
            StoreError::QueueFull | StoreError::Unavailable => Self::StoreUnavailable(error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let document = Document {
            r#type: DOCUMENT_TYPE,
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail(),
            errors: &self.errors(),
        };
        let mut response = json(status, PROBLEM_MEDIA_TYPE, JSON_BYTES_USUAL, &document);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::StoreUnavailable(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            // RFC 6750, section 3: what was wrong is said only to those who tried.
            Self::Unauthorized { token_given } => {
                let challenge = match token_given {
                    true => "Bearer realm=\"baiwan\", error=\"invalid_token\"",
                    false => "Bearer realm=\"baiwan\"",
                };
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            _ => {}
        }
        response
    }
}

/// The document, as the API's description has it.
impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let error = ObjectBuilder::new()
            .property("field", text().description(Some("The member, parameter or header field.")))
            .required("field")
            .property("detail", text().description(Some("What is wrong with it and what is allowed.")))
            .required("detail");
        ObjectBuilder::new()
            .description(Some("A problem document (RFC 9457)."))
            .property("type", text().enum_values(Some([DOCUMENT_TYPE])))
            .required("type")
            .property("title", text().description(Some("The status, as its phrase.")))
            .required("title")
            .property("status", ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(400)).maximum(Some(599)))
            .required("status")
            .property("detail", text().description(Some("What to change.")))
            .required("detail")
            .property("errors", ArrayBuilder::new().items(error).min_items(Some(1)).max_items(Some(ERRORS_MAX)))
            .into()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }
}

/// Room for a JSON body that is one of many alike, in bytes.
pub const JSON_BYTES_USUAL: usize = 256;

/// A response whose body is `value` as JSON of the given media type; `room` is a guess of its length, in bytes.
pub fn json(status: StatusCode, media_type: &'static str, room: usize, value: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(room);
    serde_json::to_writer(&mut body, value).expect("answers are structs with text keys, which cannot fail");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
