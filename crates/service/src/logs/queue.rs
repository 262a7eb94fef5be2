//! What stands between those who log and standard error: a queue that never keeps them waiting, and one thread that writes.
//!
//! ```text
//!   cores, timers, panics ──push──▶ queue, at most BYTES_MAX ──▶ thread `baiwan-log` ──▶ standard error
//! ```
//!
//! A reader that is slow or gone, and a disk that is full, cost the lines that cannot be kept or written, and nothing else. Lost
//! lines are counted, and the log says how many are missing at the place where they are. The invariant: what is written stands
//! in the order in which it was pushed.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baiwan::lines::LineOutput;

/// Text that waits to be written, at most: thousands of lines.
const BYTES_MAX: usize = 1 << 20;

/// What is written in one piece.
enum Piece {
    /// Whole lines.
    Lines(Box<[u8]>),
    /// A line that says how many others are missing here.
    Gap(u64),
}

/// Lines on their way; see the module.
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// A piece was written or lost.
    settled: Condvar,
    /// The line for a gap of a number of lines.
    gap_line: Box<dyn Fn(u64) -> String + Send + Sync>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// In the lines of `pieces`; at most [`BYTES_MAX`].
    bytes: usize,
    /// Pieces that were ever put into the queue.
    queued: u64,
    /// Those of them that were written or lost.
    settled: u64,
    /// Lines that were ever lost.
    lost: u64,
    /// Those of them that a gap stands for, in the log or in the queue.
    told: u64,
    /// Somebody has waited in vain, and nothing was settled since.
    is_stuck: bool,
}

impl State {
    fn put(&mut self, piece: Piece) {
        self.pieces.push_back(piece);
        self.queued += 1;
    }

    /// Marks the place where lines are missing.
    fn put_gap(&mut self) {
        if self.told < self.lost {
            self.put(Piece::Gap(self.lost - self.told));
            self.told = self.lost;
        }
    }
}

impl Queue {
    /// An empty one. `gap_line` is the line that says how many are missing.
    pub(super) fn new(gap_line: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        let (state, filled, settled) = Default::default();
        Self { state, filled, settled, gap_line: Box::new(gap_line) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has whole lines written, in one piece. Never waits for the writer: what does not fit is lost.
    pub(super) fn push(&self, lines: &[u8]) {
        let copy = Box::from(lines);
        let mut state = self.state();
        if lines.len() > BYTES_MAX - state.bytes {
            state.lost += count(lines);
            return;
        }
        state.put_gap();
        state.bytes += lines.len();
        state.put(Piece::Lines(copy));
        self.filled.notify_one();
    }

    /// Lines that were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Waits until all that was pushed so far is written or lost, for `patience` at most.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.state();
        state.put_gap();
        self.filled.notify_one();
        let end = state.queued;
        let waited = self.settled.wait_timeout_while(state, patience, |state| state.settled < end);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_stuck = timeout.timed_out();
    }

    /// As [`flush`](Self::flush), but a writer that was waited for in vain is not waited for again before it goes on.
    pub(super) fn flush_unless_stuck(&self, patience: Duration) {
        if !self.state().is_stuck {
            self.flush(patience);
        }
    }

    /// Writes to `output` for ever.
    pub(super) fn write_to(&self, output: impl Write) -> ! {
        let mut output = LineOutput::new(output);
        loop {
            self.write_next(&mut output);
        }
    }

    /// Waits for a piece and writes it.
    fn write_next(&self, output: &mut LineOutput<impl Write>) {
        let waited = self.filled.wait_while(self.state(), |state| state.pieces.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let Some(piece) = state.pieces.pop_front() else { return };
        if let Piece::Lines(lines) = &piece {
            state.bytes -= lines.len();
        }
        drop(state);
        let written = match &piece {
            Piece::Lines(lines) => output.write(lines),
            Piece::Gap(missing) => output.write((self.gap_line)(*missing).as_bytes()),
        };
        let mut state = self.state();
        match piece {
            _ if written.is_ok() => {}
            Piece::Lines(lines) => state.lost += count(&lines),
            Piece::Gap(missing) => state.told -= missing,
        }
        state.settled += 1;
        state.is_stuck = false;
        self.settled.notify_all();
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    fn queue() -> Queue {
        Queue::new(|lines| format!("{lines} missing\n"))
    }

    /// Writes all that is in the queue.
    fn write_all(queue: &Queue, output: &mut LineOutput<Output>) {
        while !queue.state().pieces.is_empty() {
            queue.write_next(output);
        }
    }

    fn output(outcomes: &[Result<usize, ErrorKind>]) -> LineOutput<Output> {
        LineOutput::new(Output { outcomes: outcomes.iter().copied().collect(), ..Output::default() })
    }

    /// What is written to it, and the outcomes of the next calls: a number of bytes, or an error. Then all is taken.
    #[derive(Default)]
    struct Output {
        text: Vec<u8>,
        outcomes: VecDeque<Result<usize, ErrorKind>>,
    }

    impl Write for Output {
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
    fn lines_that_do_not_fit_are_counted_where_they_are_missing() {
        let (queue, mut output) = (queue(), output(&[]));
        let long = [vec![b'x'; BYTES_MAX - 3], b"\n".to_vec()].concat();
        queue.push(b"1\n");
        queue.push(&long);
        queue.push(b"2\n");
        queue.push(b"3\n4\n");
        assert_eq!(queue.lost(), 3);
        write_all(&queue, &mut output);
        queue.push(b"5\n");
        queue.push(b"6\n");
        write_all(&queue, &mut output);
        let expected = [b"1\n", &*long, b"3 missing\n5\n6\n"].concat();
        assert!(output.get_mut().text == expected);
        assert_eq!(queue.lost(), 3);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_said_once_when_the_log_works_again() {
        let (queue, mut output) = (queue(), output(&[]));
        let mut say = |lines: &str, outcomes: &[Result<usize, ErrorKind>]| {
            output.get_mut().outcomes.extend(outcomes);
            queue.push(lines.as_bytes());
            write_all(&queue, &mut output);
            (queue.lost(), String::from_utf8(std::mem::take(&mut output.get_mut().text)).unwrap())
        };
        let gone = Err(ErrorKind::BrokenPipe);
        assert_eq!(say("1\n", &[]), (0, "1\n".to_owned()));
        assert_eq!(say("2\n", &[gone]), (1, String::new()));
        // That a line is missing cannot be said either.
        assert_eq!(say("3\n4\n", &[gone, gone]), (3, String::new()));
        assert_eq!(say("5\n", &[]), (3, "3 missing\n5\n".to_owned()));
        assert_eq!(say("6\n", &[]), (3, "6\n".to_owned()));
    }

    #[test]
    fn a_line_after_half_a_line_is_a_line_of_its_own() {
        let (queue, mut output) = (queue(), output(&[Ok(2), Err(ErrorKind::StorageFull)]));
        queue.push(b"first\n");
        write_all(&queue, &mut output);
        queue.push(b"second\n");
        write_all(&queue, &mut output);
        assert_eq!(output.get_mut().text, b"fi\n1 missing\nsecond\n");
    }

    #[test]
    fn a_non_blocking_output_that_is_full_is_waited_for() {
        let outcomes = [Ok(1), Err(ErrorKind::WouldBlock), Err(ErrorKind::Interrupted), Ok(2)];
        let (queue, mut output) = (queue(), output(&outcomes));
        queue.push(b"line\n");
        write_all(&queue, &mut output);
        assert_eq!((&output.get_mut().text[..], queue.lost()), (&b"line\n"[..], 0));
    }

    #[test]
    fn whoever_waits_for_a_writer_that_is_stuck_waits_once() {
        const FOREVER: Duration = Duration::from_secs(1 << 20);
        let (queue, mut output) = (queue(), output(&[]));
        queue.push(b"1\n");
        queue.flush(Duration::ZERO);
        queue.flush_unless_stuck(FOREVER);
        write_all(&queue, &mut output);
        assert!(!queue.state().is_stuck);
        // All is written: there is nothing to wait for.
        queue.flush(FOREVER);
        assert_eq!(output.get_mut().text, b"1\n");
    }

    #[test]
    fn what_was_lost_last_is_said_at_the_end() {
        let (queue, mut output) = (queue(), output(&[Err(ErrorKind::StorageFull)]));
        queue.push(b"last\n");
        write_all(&queue, &mut output);
        queue.flush(Duration::ZERO);
        write_all(&queue, &mut output);
        assert_eq!(output.get_mut().text, b"1 missing\n");
    }
}
