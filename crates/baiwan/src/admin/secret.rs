//! A secret that requests must know, kept so that neither a log nor a clock gives it away.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of a token.
const TOKEN_BYTES: RangeInclusive<usize> = 16..=512;
/// What a token is, in words.
#[doc(hidden)]
pub const TOKEN_FORM: &str =
    "16 to 512 characters of A-Z a-z 0-9 - . _ ~ + / and, at the end, = (RFC 6750, section 2.1)";

/// A secret. The text itself is not kept, only its SHA-256, so nothing can print it.
#[derive(Clone)]
pub struct Secret {
    digest: [u8; 32],
}

impl Secret {
    /// The secret that is `text`.
    pub fn new(text: &str) -> Self {
        Self { digest: Sha256::digest(text).into() }
    }

    /// The secret that is a token, if `text` may be one (RFC 6750, section 2.1: `b64token`). One that is short, or empty because a variable
    /// is not set, would let in whoever guesses.
    pub fn of_token(text: &str) -> Option<Self> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let body = text.trim_end_matches('=');
        let is_right = TOKEN_BYTES.contains(&text.len()) && !body.is_empty() && body.bytes().all(is_letter);
        is_right.then(|| Self::new(text))
    }

    /// Whether `given` is the secret.
    ///
    /// The time this takes depends on the length of `given` alone, which its sender knows. A comparison that stops at
    /// the first byte that differs tells, by how long it took, how many were right, and so the secret can be guessed
    /// byte by byte (row 64 of `docs/threats.md`; CWE-208). Both sides are hashed because `subtle` compares in constant
    /// time only what is of one length, and the lengths of digests say nothing.
    pub fn matches(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.digest[..].ct_eq(&given[..]).into()
    }
}

/// Whether two are the same. This is not for what a request brings ([`matches`](Secret::matches)).
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// The token that an admin side demands, if it demands one. It may change while the server runs; clones are the same token.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct AdminToken(Arc<RwLock<Option<Secret>>>);

impl AdminToken {
    /// Demands this token from now on, or none.
    pub fn set(&self, token: Option<Secret>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// What is demanded now.
    pub(super) fn now(&self) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("0123456789abcdef");
        assert!(secret.matches(b"0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef=", " 0123456789abcdef"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn tokens_are_long_and_fit_into_a_field() {
        for right in ["0123456789abcdef", "AZaz09-._~+/AZaz==", &"a".repeat(512)] {
            assert!(Secret::of_token(right).is_some_and(|token| token.matches(right.as_bytes())), "{right}");
        }
        let (signs, long) = ("=".repeat(16), "a".repeat(513));
        for wrong in [
            "",
            "0123456789abcde",
            &long,
            "0123456789=abcdef",
            "0123456789 abcdef",
            "0123456789abcdef\n",
            &signs,
            "0123456789abcdeé",
        ] {
            assert!(Secret::of_token(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::new("0123456789abcdef"))), "Some(…)");
    }
}
