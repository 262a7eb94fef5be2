//! What is stored, and the changes that may be asked for: the model of every store, without SQL.
//!
//! All of it was checked before it comes here: a store meets no wrong field. Invariant: a user's version begins at 1 and grows
//! by one with each replacement, so that a version names one content of one user for ever.

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::clock;

/// How long an idempotency key is remembered, at least.
const IDEMPOTENCY_KEY_LIFETIME: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// A user as stored and as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// Given by the store, ascending, never used twice.
    #[schema(minimum = 1)]
    pub id: i64,
    /// Unique, compared byte by byte.
    pub name: String,
    /// `null` where there is none.
    #[schema(required = true)]
    pub email: Option<String>,
    /// RFC 3339, UTC, with milliseconds.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Which content of this user it is: 1, and one more with each replacement. Shown as the entity tag.
    #[serde(skip)]
    pub version: i64,
}

/// What a caller may write of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// See [`User::name`].
    pub name: String,
    /// See [`User::email`].
    pub email: Option<String>,
}

impl Fields {
    /// The SHA-256 digest of the fields: equal for equal fields and, in practice, for no others.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        // The length keeps the end of the name from being taken for the beginning of the address.
        digest.update((self.name.len() as u64).to_be_bytes());
        digest.update(&self.name);
        digest.update([u8::from(self.email.is_some())]);
        digest.update(self.email.as_deref().unwrap_or_default());
        digest.finalize().into()
    }
}

/// The name that a caller gave to one creation, so that it can be asked for again without happening twice
/// (draft-ietf-httpapi-idempotency-key-header): 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key, if `text` is one.
    pub fn parse(text: &str) -> Option<Self> {
        let length_right = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
        (length_right && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Keys that were made before this time are forgotten.
    pub(super) fn expiry() -> String {
        clock::past_rfc3339(IDEMPOTENCY_KEY_LIFETIME)
    }
}

/// What must hold of a user for a change to be made: `If-Match` and `If-None-Match`, read (RFC 9110, sections 13.1.1 and 13.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing but that the user exists.
    Any,
    /// The user has one of these versions. Of none, it holds for nobody.
    Versions(Vec<i64>),
    /// The user exists and has none of these versions.
    NoneOf(Vec<i64>),
}

impl Condition {
    /// Whether a user of that version may be changed.
    pub fn holds(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
            Self::NoneOf(versions) => !versions.contains(&version),
        }
    }
}

/// A change of one user.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new user. With a key, the first answer is given again to the same key and fields.
    Create {
        /// The fields.
        fields: Fields,
        /// See [`User::created_at`].
        created_at: String,
        /// How the caller recognises this creation.
        key: Option<IdempotencyKey>,
    },
    /// Other fields for a user, who keeps the id and the time of creation.
    Replace {
        /// The user.
        id: i64,
        /// The new fields.
        fields: Fields,
        /// What must hold.
        condition: Condition,
    },
    /// No such user any more. The id is not used again; the name is free.
    Delete {
        /// The user.
        id: i64,
        /// What must hold.
        condition: Condition,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_fields_apart() {
        let fields =
            |name: &str, email: Option<&str>| Fields { name: name.to_owned(), email: email.map(str::to_owned) };
        let all = [fields("ab", None), fields("a", Some("b")), fields("ab", Some("")), fields("", Some("ab"))];
        for (first, one) in all.iter().enumerate() {
            assert_eq!(one.fingerprint(), one.clone().fingerprint());
            for other in &all[first + 1..] {
                assert_ne!(one.fingerprint(), other.fingerprint(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn keys_are_visible_and_not_too_long() {
        for right in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", &"x".repeat(255)] {
            assert_eq!(IdempotencyKey::parse(right).unwrap().as_str(), right);
        }
        for wrong in ["", " ", "a b", "a\n", "é", "\u{7f}", &"x".repeat(256)] {
            assert_eq!(IdempotencyKey::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_condition_of_no_version_holds_for_nobody() {
        assert!(Condition::Any.holds(7));
        assert!(Condition::Versions(vec![3, 7]).holds(7));
        assert!(!Condition::Versions(vec![3, 8]).holds(7));
        assert!(!Condition::Versions(Vec::new()).holds(1));
        assert!(Condition::NoneOf(vec![3, 8]).holds(7) && Condition::NoneOf(Vec::new()).holds(7));
        assert!(!Condition::NoneOf(vec![3, 7]).holds(7));
    }
}
