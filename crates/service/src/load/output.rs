//! Files that are written after the run, and opened before it: a wrong path costs nobody a run.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Something to write to.
pub(super) struct Output {
    path: PathBuf,
    /// None is standard output.
    file: Option<File>,
}

impl Output {
    /// Opens the file that a flag names; `-` is standard output. What is in the file stays there until [`write`](Self::write).
    pub(super) fn open(flag: &str, path: Option<&Path>) -> Result<Option<Self>, String> {
        let Some(path) = path else { return Ok(None) };
        if path.as_os_str() == "-" {
            return Ok(Some(Self { path: path.to_owned(), file: None }));
        }
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(|error| {
            format!("{flag} is {:?}; allowed is a file that can be written: {error}", path.display().to_string())
        })?;
        Ok(Some(Self { path: path.to_owned(), file: Some(file) }))
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// Replaces what is there.
    pub(super) fn write(self, text: &str) -> anyhow::Result<()> {
        let Some(mut file) = self.file else { return print(text) };
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let emptied = if is_regular { file.set_len(0) } else { Ok(()) };
        emptied.and_then(|()| file.write_all(text.as_bytes())).with_context(|| self.path.display().to_string())
    }
}

/// Writes to standard output, as a whole: what is not a line by itself would stay in its buffer otherwise, and fail unseen.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_something_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        std::fs::write(&path, "the last run, which was longer").unwrap();
        let output = Output::open("--json", Some(&path)).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the last run, which was longer");
        output.write("this run").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "this run");
        let refused = Output::open("--html", Some(directory.path())).err().unwrap();
        assert!(refused.starts_with("--html is \"/") && refused.contains("allowed is a file"), "{refused}");
        assert!(Output::open("--json", Some(Path::new("-"))).unwrap().unwrap().is_stdout());
    }
}
