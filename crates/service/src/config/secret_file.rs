//! Secrets that stand in files of their own: in the one that `NAME_FILE` names, or in one of `$CREDENTIALS_DIRECTORY`, where systemd
//! puts a unit's credentials. Invariant: what is said of such a file names it and never repeats it.

use std::io;
use std::path::{Path, PathBuf};

use super::file::read_bytes;

/// A larger file is no secret.
const BYTES_MAX: u64 = 64 * 1024;

/// The secret in the file at `path`, without the end of its line. The error says what is allowed and why this is not.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let bytes = read_bytes(path, BYTES_MAX).map_err(|error| format!("a file that can be read: {error}"))?;
    let bytes = bytes.ok_or("a file of at most 64 KiB")?;
    let mut text = String::from_utf8(bytes).map_err(|_| "a file of UTF-8 text")?;
    if text.ends_with('\n') {
        text.pop();
        text.truncate(text.strip_suffix('\r').unwrap_or(&text).len());
    }
    if text.is_empty() { Err("a file that is not empty".to_owned()) } else { Ok(text) }
}

/// The file of a credential: it is called as the setting is, in upper or in lower case. The error says what is wrong with the
/// directory.
pub(super) fn credential(directory: &Path, name: &str) -> Result<Option<PathBuf>, (PathBuf, String)> {
    let mut found = None;
    for path in [directory.join(name), directory.join(name.to_ascii_lowercase())] {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((path, format!("a file that can be read: {error}"))),
            Ok(_) if found.is_some() => return Err((path, format!("one file, and {name} is there too"))),
            Ok(_) => found = Some(path),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_file_without_the_end_of_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let largest = "a".repeat(BYTES_MAX as usize);
        for (content, secret) in [
            ("secret", Ok("secret")),
            ("secret\n", Ok("secret")),
            ("secret\n\n", Ok("secret\n")),
            ("secret\r\n", Ok("secret")),
            ("secret\r", Ok("secret\r")),
            (" secret ", Ok(" secret ")),
            (&largest, Ok(&largest)),
            (&format!("{largest}\n"), Err("a file of at most 64 KiB")),
            ("", Err("a file that is not empty")),
            ("\n", Err("a file that is not empty")),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(
                read(&path).as_deref().map_err(|error| &**error),
                secret,
                "{:?}",
                &content[..content.len().min(9)]
            );
        }
        std::fs::write(&path, b"secret\xff").unwrap();
        assert_eq!(read(&path), Err("a file of UTF-8 text".to_owned()));
        assert!(read(directory.path()).is_err_and(|allowed| allowed.contains("Is a directory")));
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_one_that_nobody_writes_to_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert!(read(&path).is_err_and(|allowed| allowed.contains("nothing came for 5 seconds")));
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "a".repeat(BYTES_MAX as usize)).unwrap()
        });
        assert_eq!(read(&path).unwrap().len() as u64, BYTES_MAX);
        writer.join().unwrap();
    }

    #[test]
    fn a_credential_has_the_name_of_its_setting_in_upper_or_in_lower_case() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert_eq!(credential(directory, "API_TOKEN"), Ok(None));
        assert_eq!(credential(&directory.join("none"), "API_TOKEN"), Ok(None));
        let (upper, lower) = (directory.join("API_TOKEN"), directory.join("api_token"));
        std::fs::write(&lower, "").unwrap();
        assert_eq!(credential(directory, "API_TOKEN"), Ok(Some(lower.clone())));
        std::fs::write(&upper, "").unwrap();
        assert!(credential(directory, "API_TOKEN").is_err_and(|(path, _)| path == lower));
        std::fs::remove_file(&lower).unwrap();
        assert_eq!(credential(directory, "API_TOKEN"), Ok(Some(upper)));
    }
}
