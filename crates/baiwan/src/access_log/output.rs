//! Where lines are written: standard output, or a file that others may move away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Destination;
use crate::lines::{LineOutput, Unwritten};

/// Between two looks at whether the file is still where it was, and between two tries to open it.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The owner writes, the group reads.
const MODE: u32 = 0o640;

/// An output; what cannot be opened is tried again.
#[derive(Debug)]
pub(super) struct Output {
    /// None where lines go to standard output.
    path: Option<PathBuf>,
    open: Option<Open>,
    /// When the file was last looked for.
    checked: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    lines: LineOutput<File>,
    /// Device and inode.
    identity: (u64, u64),
}

impl Output {
    /// An output, and whether people read it. A file is opened by [`check`](Self::check).
    pub(super) fn new(to: &Destination) -> io::Result<(Self, bool)> {
        let Destination::File(path) = to else {
            // Unlike `io::stdout()` it has no buffer and no lock, so nobody who prints waits for it.
            let stdout = io::stdout();
            let open = Open::new(File::from(stdout.as_fd().try_clone_to_owned()?))?;
            return Ok((Self { path: None, open: Some(open), checked: None }, stdout.is_terminal()));
        };
        Ok((Self { path: Some(path.clone()), open: None, checked: None }, false))
    }

    /// Opens the file if it is not open, or no longer where it was; at most once a second.
    pub(super) fn check(&mut self, now: Instant) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let is_due = self.checked.is_none_or(|checked| now.duration_since(checked) >= CHECK_INTERVAL);
        if !is_due {
            return Ok(());
        }
        self.checked = Some(now);
        let identity = fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if identity.is_none() || self.open.as_ref().map(|open| open.identity) != identity {
            // As long as no other can be opened, lines go to the one that was moved away.
            self.open = Some(open(path)?);
        }
        Ok(())
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        match &mut self.open {
            Some(open) => open.lines.write(lines),
            None => Err(Unwritten { taken: 0, error: io::ErrorKind::NotFound.into() }),
        }
    }
}

impl Open {
    fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { lines: LineOutput::new(file), identity: (metadata.dev(), metadata.ino()) })
    }
}

fn open(path: &Path) -> io::Result<Open> {
    Open::new(OpenOptions::new().append(true).create(true).mode(MODE).open(path)?)
}
