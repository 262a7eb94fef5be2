//! Everything that can be wrong with a request, and its answer: a problem document (RFC 9457).
//!
//! One enum, one function that maps it to a status. A document tells the caller what to change and nothing about the
//! inside of the service.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use crate::store::StoreError;

/// Seconds after which a caller should try again when the store cannot take the request now.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// A part of the request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The member of the body or the parameter of the query.
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

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A parameter of the query is wrong.
    WrongParameter(FieldError),
    /// The body is no JSON; the text says where.
    MalformedJson(String),
    /// The body broke off before its end.
    IncompleteBody,
    /// Nothing lives at this path.
    NotFound,
    /// The path exists, the method does not. The router adds `Allow`.
    MethodNotAllowed,
    /// Another user has the name.
    NameTaken,
    /// The body is longer than so many bytes.
    BodyTooLarge(usize),
    /// The body's type or coding is not one that is read here; the text says which are.
    UnsupportedMediaType(&'static str),
    /// JSON, but not what was asked for: no object at all.
    NotAnObject,
    /// JSON whose members are wrong; never empty.
    WrongFields(Vec<FieldError>),
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

impl Problem {
    /// The status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::WrongParameter(_) | Self::MalformedJson(_) | Self::IncompleteBody => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NameTaken => StatusCode::CONFLICT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAnObject | Self::WrongFields(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::StoreUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::WrongParameter(error) => format!("The query parameter `{}` {}.", error.field, error.detail),
            Self::MalformedJson(reason) => format!("The body is not JSON: {reason}."),
            Self::IncompleteBody => "The body ended before it was complete.".to_owned(),
            Self::NotFound => "There is nothing at this path.".to_owned(),
            Self::MethodNotAllowed => "This path has other methods; `Allow` lists them.".to_owned(),
            Self::NameTaken => "Another user has this name.".to_owned(),
            Self::BodyTooLarge(bytes_max) => format!("The body is longer than {bytes_max} bytes."),
            Self::UnsupportedMediaType(reason) => (*reason).to_owned(),
            Self::NotAnObject => "The body must be a JSON object.".to_owned(),
            Self::WrongFields(errors) => {
                let sentences: Vec<_> =
                    errors.iter().map(|error| format!("The field `{}` {}.", error.field, error.detail)).collect();
                sentences.join(" ")
            }
            Self::StoreUnavailable(StoreError::QueueFull) => {
                "Too many writes are waiting; nothing was stored. Try again.".to_owned()
            }
            Self::StoreUnavailable(_) => "The store is not available at the moment. Try again.".to_owned(),
        }
    }

    fn errors(&self) -> Vec<FieldError> {
        match self {
            Self::WrongParameter(error) => vec![error.clone()],
            Self::WrongFields(errors) => errors.clone(),
            Self::NameTaken => vec![FieldError::new("name", "is taken")],
            _ => Vec::new(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameTaken => Self::NameTaken,
            StoreError::QueueFull | StoreError::Unavailable => Self::StoreUnavailable(error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let document = Document {
            // RFC 9457, section 4.2.1: the status says all there is to the type, and the title is its phrase.
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail(),
            errors: &self.errors(),
        };
        let mut response = json(status, "application/problem+json", &document);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// A response whose body is `value` as JSON of the given media type.
pub fn json(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Response {
    const NOSNIFF: (HeaderName, &str) = (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let body = serde_json::to_vec(value).expect("answers are structs with text keys, which cannot fail");
    (status, [(CONTENT_TYPE, media_type), NOSNIFF], body).into_response()
}
