//! Which version of what it serves with a server was built from.

use std::io;

use crate::say;

/// The lock file that this package was built with.
const LOCK: &str = include_str!("../../Cargo.lock");

/// Whether the first word after the program's name is `--version`; answers it with the version of `package`.
///
/// # Errors
/// When the lock file does not know the package, or nobody reads the answer.
pub fn version_asked(package: &str) -> io::Result<bool> {
    let asked = std::env::args().nth(1).is_some_and(|word| word == "--version");
    if asked {
        say(locked(package).ok_or_else(|| io::Error::other(format!("{package} is not in the lock file")))?)?;
    }
    Ok(asked)
}

fn locked(package: &str) -> Option<&'static str> {
    let name = format!("\nname = \"{package}\"\n");
    let entry = LOCK.split("[[package]]").find(|entry| entry.contains(&name))?;
    Some(entry.lines().find_map(|line| line.strip_prefix("version = "))?.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use super::*;

    #[test]
    fn the_lock_file_knows_what_the_servers_are_named_after() {
        for package in ["actix-web", "axum", "baiwan", "hyper", "io-uring", "may_minihttp", "ntex", "rustix"] {
            let version = locked(package).unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{package} {version}");
        }
        assert_eq!(locked("no-such-package"), None);
    }
}
