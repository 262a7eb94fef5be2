//! Where lines are written: standard output, or a file that others may move away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Destination;
use crate::lines::{LineOutput, Unwritten};
use crate::say::say;

/// Between two looks at whether the file is still where it was, and between two tries to open it.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The owner writes, the group reads.
const MODE: u32 = 0o640;
/// What goes to a pipe in one piece, so that no other writer comes between: `PIPE_BUF` of Linux (pipe(7)). Sockets take as much as a whole, too.
const WHOLE_BYTES_MAX: usize = 4096;

/// An output; what cannot be opened is tried again.
#[derive(Debug)]
pub(super) struct Output {
    /// None where lines go to standard output.
    path: Option<PathBuf>,
    open: Option<Open>,
    /// When the file was last looked for.
    checked: Option<Instant>,
    /// The file is not where it belongs, and no other could be opened there.
    is_astray: bool,
}

#[derive(Debug)]
struct Open {
    lines: LineOutput<File>,
    /// Device and inode.
    identity: (u64, u64),
    /// Others may write to it at the same time, each of their pieces as a whole: a pipe, a socket, a terminal.
    is_shared: bool,
}

impl Output {
    /// An output, and whether people read it. A file is opened by [`check`](Self::check).
    pub(super) fn new(to: &Destination) -> (Self, bool) {
        let Destination::File(path) = to else {
            // Unlike `io::stdout()` it has no buffer and no lock, so nobody who prints waits for it.
            let stdout = io::stdout();
            let open = stdout.as_fd().try_clone_to_owned().and_then(|stdout| Open::new(File::from(stdout)));
            return (Self::of_stdout(open), stdout.is_terminal());
        };
        (Self { path: Some(path.clone()), open: None, checked: None, is_astray: false }, false)
    }

    /// No log is a reason for a server not to start. It is not tried again: another file may have the number of standard output by then.
    fn of_stdout(open: io::Result<Open>) -> Self {
        let open =
            open.map_err(|error| say(|| tracing::warn!(%error, "standard output, the access log's, cannot be used")));
        Self { path: None, open: open.ok(), checked: None, is_astray: false }
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
        self.is_astray = identity.is_none() || self.open.as_ref().map(|open| open.identity) != identity;
        if self.is_astray {
            match open(path) {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    // As long as no other can be opened, lines go to the one that was moved away, unless nobody can find it any more.
                    self.open.take_if(|open| open.is_deleted());
                    return Err(error);
                }
            }
            self.is_astray = false;
        }
        Ok(())
    }

    /// Whether lines do not go where they should: they are lost, or in a file that was moved away.
    pub(super) fn is_astray(&self) -> bool {
        self.is_astray
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let Some(open) = &mut self.open else {
            return Err(Unwritten { taken: 0, error: io::ErrorKind::NotFound.into() });
        };
        if !open.is_shared {
            return open.lines.write(lines);
        }
        let mut before = 0;
        while before < lines.len() {
            let piece = first_whole(&lines[before..]);
            let written = open.lines.write(piece);
            written.map_err(|Unwritten { taken, error }| Unwritten { taken: before + taken, error })?;
            before += piece.len();
        }
        Ok(())
    }
}

/// As many of `lines` as can be written as a whole, or the first.
fn first_whole(lines: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| *byte == b'\n';
    let most = &lines[..lines.len().min(WHOLE_BYTES_MAX)];
    let last = most.iter().rposition(is_end).or_else(|| lines.iter().position(is_end));
    last.map_or(lines, |last| &lines[..=last])
}

impl Open {
    fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (identity, is_shared) = ((metadata.dev(), metadata.ino()), !metadata.is_file());
        Ok(Self { lines: LineOutput::new(file), identity, is_shared })
    }

    fn is_deleted(&mut self) -> bool {
        self.lines.get_mut().metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let mut open = Open::new(OpenOptions::new().append(true).create(true).mode(MODE).open(path)?)?;
    if !open.is_shared && ends_within_line(path) {
        open.lines.handle_torn();
    }
    Ok(open)
}

/// Whether whoever wrote to the file before was ended in the middle of a line. Of a file that nobody may read that is not known: an empty line
/// does less harm than a broken one.
fn ends_within_line(path: &Path) -> bool {
    let last = || -> io::Result<Option<u8>> {
        let file = File::open(path)?;
        let Some(end) = file.metadata()?.len().checked_sub(1) else { return Ok(None) };
        let mut last = [0];
        file.read_exact_at(&mut last, end)?;
        Ok(Some(last[0]))
    };
    last().map_or(true, |last| last.is_some_and(|last| last != b'\n'))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// The time of the next check that looks.
    fn later(now: &mut Instant) -> Instant {
        *now += CHECK_INTERVAL;
        *now
    }

    #[test]
    fn what_others_write_to_as_well_gets_whole_lines_in_pieces_that_nothing_comes_between() {
        // Of datagrams it is seen what was written at once.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut output = Output::of_stdout(Open::new(File::from(OwnedFd::from(ours))));
        let long = [&[b'y'; WHOLE_BYTES_MAX][..], b"\n"].concat();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let lines = [&line[..], &long, &line, &line, &line, &line, &line, &line[..96], b"\n"].concat();
        output.write(&lines).unwrap();
        let mut received = vec![0; 1 << 16];
        let mut sizes = Vec::new();
        theirs.set_nonblocking(true).unwrap();
        while let Ok(size) = theirs.recv(&mut received) {
            assert_eq!(received[size - 1], b'\n');
            sizes.push(size);
        }
        assert_eq!(sizes, [1000, long.len(), 4000, 1097]);
        drop(theirs);
        assert_eq!(output.write(&lines).unwrap_err().taken, 0);
    }

    #[test]
    fn a_server_without_standard_output_loses_its_lines_and_nothing_else() {
        let mut output = Output::of_stdout(Err(io::ErrorKind::NotConnected.into()));
        output.check(crate::recorder::now()).unwrap();
        assert_eq!(output.write(b"lost\n").unwrap_err().taken, 0);
    }

    #[test]
    fn the_first_line_after_a_crash_is_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        for (before, expected) in [("", "1\n"), ("whole\n", "whole\n1\n"), ("hal", "hal\n1\n")] {
            fs::write(&path, before).unwrap();
            let (mut output, _) = Output::new(&Destination::File(path.clone()));
            output.check(crate::recorder::now()).unwrap();
            output.write(b"1\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_is_kept_until_nobody_can_find_it() {
        let directory = tempfile::tempdir().unwrap();
        let (folder, moved) = (directory.path().join("logs"), directory.path().join("moved.log"));
        let path = folder.join("access.log");
        fs::create_dir(&folder).unwrap();
        let (mut output, _) = Output::new(&Destination::File(path.clone()));
        let now = &mut crate::recorder::now();
        output.check(*now).unwrap();
        output.write(b"1\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        fs::remove_dir(&folder).unwrap();
        output.check(later(now)).unwrap_err();
        assert!(output.is_astray());
        output.write(b"2\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n2\n");
        output.check(*now).unwrap();
        assert!(output.is_astray(), "it was not looked for again yet");
        fs::remove_file(&moved).unwrap();
        output.check(later(now)).unwrap_err();
        output.write(b"3\n").unwrap_err();
        fs::create_dir(&folder).unwrap();
        output.check(later(now)).unwrap();
        output.write(b"4\n").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), output.is_astray()), ("4\n".to_owned(), false));
    }
}
