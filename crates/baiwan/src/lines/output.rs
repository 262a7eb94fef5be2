//! Where lines go, whatever becomes of it.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// Between two tries to write to an output that somebody has made non-blocking, while it takes nothing.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Writes whole lines. After a failure in the middle of a line, the next line begins on one of its own.
#[derive(Debug)]
pub struct LineOutput<W> {
    output: W,
    /// The output ends within a line, because the rest was lost.
    is_torn: bool,
}

/// Lines were not written as a whole.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unwritten {
    /// How many bytes of the lines the output has taken all the same.
    pub taken: usize,
    /// Why it took no more.
    #[source]
    pub error: io::Error,
}

impl<W: Write> LineOutput<W> {
    /// One that nothing was written to yet.
    pub fn new(output: W) -> Self {
        Self { output, is_torn: false }
    }

    /// What is written to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.output
    }

    /// What is written to ends within a line that somebody else has begun: the next line begins on one of its own.
    pub fn handle_torn(&mut self) {
        self.is_torn = true;
    }

    /// Writes all of `lines`, and waits for as long as the output does. One that does not block is asked again every 10 ms.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.is_torn {
            self.write_all(b"\n").map_err(|Unwritten { error, .. }| Unwritten { taken: 0, error })?;
        }
        self.write_all(lines)
    }

    fn write_all(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut taken = 0;
        while taken < lines.len() {
            match self.output.write(&lines[taken..]) {
                Ok(0) => return Err(Unwritten { taken, error: ErrorKind::WriteZero.into() }),
                Ok(count) => {
                    taken += count;
                    self.is_torn = lines[taken - 1] != b'\n';
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::park_timeout(RETRY_INTERVAL),
                Err(error) => return Err(Unwritten { taken, error }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// What is written to it, and the outcomes of the next calls: a number of bytes, or an error. Then all is taken.
    #[derive(Default)]
    struct Script {
        text: Vec<u8>,
        outcomes: VecDeque<Result<usize, ErrorKind>>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.outcomes.pop_front().unwrap_or(Ok(bytes.len()))?;
            self.text.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_after_a_torn_one_begins_on_one_of_its_own() {
        let outcomes = [Ok(1), Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull), Ok(1), Ok(3)];
        let mut output = LineOutput::new(Script { outcomes: outcomes.into(), ..Script::default() });
        assert_eq!(output.write(b"one\n").unwrap_err().taken, 1);
        assert_eq!(output.write(b"two\n").unwrap_err().taken, 0, "the end of the torn line could not be written");
        output.write(b"three\nfour\n").unwrap();
        assert_eq!(output.output.text, b"o\nthree\nfour\n");
        assert!(!output.is_torn);
    }

    #[test]
    fn what_interrupts_or_has_no_room_for_a_moment_costs_nothing() {
        let outcomes = [Err(ErrorKind::Interrupted), Ok(2), Err(ErrorKind::WouldBlock)];
        let mut output = LineOutput::new(Script { outcomes: outcomes.into(), ..Script::default() });
        output.write(b"one\n").unwrap();
        assert_eq!(output.output.text, b"one\n");
        output.output.outcomes = [Ok(0)].into();
        assert_eq!(output.write(b"two\n").unwrap_err().error.kind(), ErrorKind::WriteZero);
    }
}
