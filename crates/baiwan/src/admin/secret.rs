//! A secret that requests must know, kept so that neither a log nor a clock gives it away.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

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
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::new("0123456789abcdef"))), "Some(…)");
    }
}
