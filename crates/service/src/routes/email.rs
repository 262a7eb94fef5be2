//! What an e-mail address looks like: the grammar of `<input type=email>` (WHATWG HTML, "valid e-mail address"), which
//! is narrower than RFC 5322 where that allows what nobody uses, such as comments, quotes and white space.
//!
//! It is written twice, for the service and, as [`PATTERN`], for its description: the two agree. Only mail that arrives
//! proves an address.

/// The longest address, in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
pub(super) const BYTES_MAX: usize = 254;
/// The longest part of a domain between two dots, in bytes (RFC 1034, section 3.5).
const LABEL_BYTES_MAX: usize = 63;

/// The grammar as an ECMA-262 regular expression, word for word as WHATWG gives it.
pub(super) const PATTERN: &str = "^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\
     (?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$";

/// Whether `text` is an address that may be stored.
pub(super) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    text.len() <= BYTES_MAX && !local.is_empty() && local.bytes().all(is_local) && domain.split('.').all(is_label)
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte)
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_browsers_take() {
        let long_label = format!("a@{}.org", "b".repeat(63));
        let longest = format!("{}@b", "x".repeat(BYTES_MAX - 2));
        for right in [
            "ada@example.org",
            "x@y",
            "x@1",
            "1@a-b.c--d",
            "a.b.@c",
            ".@c",
            "!#$%&'*+/=?^_`{|}~-@EXAMPLE.com",
            &long_label,
            &longest,
        ] {
            assert!(is_address(right), "{right}");
        }
        let longer_label = format!("a@{}.org", "b".repeat(64));
        let too_long = format!("{}@b", "x".repeat(BYTES_MAX - 1));
        for wrong in [
            "",
            "none",
            "@",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b c",
            " a@b",
            "a@b\n",
            "a@.b",
            "a@b.",
            "a@b..c",
            "a@-b",
            "a@b-",
            "a@b-.c",
            "a@b_c",
            "a@[127.0.0.1]",
            "\"a b\"@c",
            "a(comment)@b",
            "a,b@c",
            "é@b",
            "a@é",
            &longer_label,
            &too_long,
        ] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}
