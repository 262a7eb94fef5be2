//! The files in which the kernel says what it allows, below a root, and what becomes of those that say nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What is shown of a file that says something else than was expected.
const SHOWN_MAX: usize = 40;

/// Where files are read: below `/`, tests apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a>(&'a Path);

/// Why a value is not known, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unknown(String);

impl Unknown {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self(root)
    }

    pub(super) fn root(&self) -> &'a Path {
        self.0
    }

    /// Where the absolute `path` is.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The content of the absolute `path`.
    pub(super) fn text(&self, path: &str) -> Result<String, Unknown> {
        fs::read_to_string(self.place(Path::new(path))).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unknown(format!("not known: there is no {path}")),
            _ => Unknown(format!("not known: {path} cannot be read ({error})")),
        })
    }

    /// The number that is all of a file's content.
    pub(super) fn number(&self, path: &str) -> Result<u64, Unknown> {
        self.numbers::<1>(path).map(|[number]| number)
    }

    /// The first numbers of a file, which are separated by white space.
    pub(super) fn numbers<const COUNT: usize>(&self, path: &str) -> Result<[u64; COUNT], Unknown> {
        let text = self.text(path)?;
        let mut words = text.split_whitespace();
        let mut numbers = [0; COUNT];
        for number in &mut numbers {
            *number = words.next().and_then(|word| u64::from_str(word).ok()).ok_or_else(|| garbage(path, &text))?;
        }
        Ok(numbers)
    }

    /// The word after `name` in the line that begins with it, such as `MemTotal:`.
    pub(super) fn named(&self, path: &str, name: &str) -> Result<String, Unknown> {
        let text = self.text(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        value.map(ToOwned::to_owned).ok_or_else(|| Unknown(format!("not known: {path} does not say {name:?}")))
    }

    /// How many entries a folder has.
    pub(super) fn entries(&self, path: &str) -> Option<u64> {
        Some(fs::read_dir(self.place(Path::new(path))).ok()?.count() as u64)
    }
}

/// A file says what nobody understands.
pub(super) fn garbage(path: &str, text: &str) -> Unknown {
    let shown: String = text.trim().chars().take(SHOWN_MAX).collect();
    Unknown(format!("not known: {path} says {shown:?}"))
}
