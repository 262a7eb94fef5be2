//! Who may write: everybody, or, where the operator has set a token, whoever brings it (RFC 6750, section 2.1).
//!
//! [`Writer`] is an extractor: a handler that takes it, before its body, cannot be reached without the token, and nothing of
//! the body is read in vain. What the token is compared with, and how, is the setting's business.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::HandlerState;
use crate::config::Secret;
use crate::problem::Problem;

/// Proof that the caller may write.
pub(super) struct Writer;

impl FromRequestParts<Arc<HandlerState>> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<HandlerState>) -> Result<Self, Problem> {
        match &core.policy.api_token {
            Some(token) => check(&parts.headers, token).map(|()| Self),
            None => Ok(Self),
        }
    }
}

fn check(headers: &HeaderMap, operator: &Secret) -> Result<(), Problem> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (fields.next(), fields.next());
    match first.and_then(|field| token_of(field.as_bytes())) {
        // Of two, nobody knows which one was checked on the way.
        Some(token) if second.is_none() && operator.matches(token) => Ok(()),
        token => Err(Problem::Unauthorized { token_given: token.is_some() }),
    }
}

/// The token of `Bearer TOKEN`, perhaps an empty one; the scheme in any case (RFC 9110, section 11.1).
fn token_of(credentials: &[u8]) -> Option<&[u8]> {
    let end = credentials.iter().position(|&byte| byte == b' ').unwrap_or(credentials.len());
    let (scheme, token) = credentials.split_at(end);
    scheme.eq_ignore_ascii_case(b"Bearer").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_follows_the_scheme() {
        let token = |credentials: &'static str| token_of(credentials.as_bytes());
        assert_eq!(token("Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(token("bEARER abc"), Some(&b"abc"[..]));
        assert_eq!(token("Bearer   abc"), Some(&b"abc"[..]));
        assert_eq!(token("Bearer abc def"), Some(&b"abc def"[..]));
        assert_eq!(token("Bearer "), Some(&b""[..]));
        assert_eq!(token("Bearer"), Some(&b""[..]));
        for other in ["", "abc", "Basic YTpi", "Bearerabc", "Bearer=abc", "\tBearer abc", "Bearer\tabc"] {
            assert_eq!(token(other), None, "{other:?}");
        }
    }
}
