//! The thread that writes: it looks into every ring, makes lines of what is there, and writes them in large pieces.
//!
//! While there is something to write it looks ten times a second. When nothing has come for a second it sleeps until a core wakes it: an
//! idle server has no timer for its log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::line::LineWriter;
use super::output::Output;
use super::record::Record;
use super::ring::{AccessLogInForce, Figures, Producer, rings};
use super::sampling::Sampling;
use super::{AccessLog, AccessLogFormat};
use crate::clock::wall_time_us;
use crate::lines::Unwritten;
use crate::say::say;

/// Between two looks into the rings.
const INTERVAL: Duration = Duration::from_millis(100);
/// Looks in vain before it sleeps.
const VAIN_LOOKS_MAX: u32 = 10;
/// Lines are written when there are as many bytes of them.
const PIECE_BYTES: usize = 64 * 1024;
/// Between two warnings that lines cannot be written.
const WARNING_PAUSE: Duration = Duration::from_secs(60);
/// How long the end of a server waits for its last lines.
const LAST_LINES_PATIENCE: Duration = Duration::from_secs(1);

/// The writer of a server's access log. Its thread ends when the last core has.
#[derive(Debug)]
pub(crate) struct Writer {
    figures: Arc<Figures>,
    /// How many of the flushes are done that somebody wanted.
    flushed: watch::Receiver<u64>,
}

impl Writer {
    /// Starts the thread, and gives each core what it notes its exchanges with.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(log: &AccessLog, cores: usize) -> io::Result<(Self, Arc<AccessLogInForce>)> {
        let (desk, producers) = Desk::new(log, cores);
        let figures = Arc::clone(&desk.figures);
        let (flushed_sender, flushed) = watch::channel(0);
        let body = move || desk.run(&flushed_sender);
        let thread = thread::Builder::new().name("baiwan-access".to_owned()).spawn(body)?;
        // It was empty: the figures are new.
        let _ = figures.writer.set(thread.thread().clone());
        let in_force = AccessLogInForce::new(Arc::clone(&figures.counts), producers);
        Ok((Self { figures, flushed }, in_force))
    }

    /// Waits until everything that was noted so far is written or lost, for a second at most.
    pub(crate) async fn flush(&mut self) {
        let wanted = self.figures.flushes_wanted.fetch_add(1, AcqRel) + 1;
        self.figures.wake();
        // A thread that has ended has written all.
        let _ = tokio::time::timeout(LAST_LINES_PATIENCE, self.flushed.wait_for(|done| *done >= wanted)).await;
    }
}

/// What the thread works with.
struct Desk {
    figures: Arc<Figures>,
    cores: Vec<Core>,
    sampling: Sampling,
    /// Of all cores, counted already.
    exchanges_seen: u64,
    lines: LineWriter,
    /// What was in a ring.
    records: Vec<u8>,
    piece: Piece,
    output: Output,
    /// Exchanges that were lost and that no line tells of yet.
    untold: u64,
    /// The operator was told that lines cannot be written, and nothing else since.
    is_failing: bool,
    warned: Option<Instant>,
}

struct Core {
    ring: rtrb::Consumer<u8>,
    /// Lost exchanges that are in `untold` or were told.
    lost_seen: u64,
}

/// Lines that are written together.
#[derive(Default)]
struct Piece {
    text: Vec<u8>,
    /// What each line stands for.
    lines: Vec<LineOf>,
}

#[derive(Clone, Copy)]
enum LineOf {
    /// As many exchanges.
    Exchanges(u64),
    /// As many that were lost.
    Gap(u64),
}

impl Desk {
    /// What the thread works with, and what each core notes its exchanges with.
    fn new(log: &AccessLog, cores: usize) -> (Self, Vec<Producer>) {
        let (output, is_terminal) = Output::new(&log.to);
        let is_json = match log.format {
            AccessLogFormat::Auto => !is_terminal,
            AccessLogFormat::Json => true,
            AccessLogFormat::Text => false,
        };
        let (figures, producers, rings) = rings(cores, now());
        let desk = Self {
            figures,
            cores: rings.into_iter().map(|ring| Core { ring, lost_seen: 0 }).collect(),
            sampling: Sampling::new(log.sample_above),
            exchanges_seen: 0,
            lines: LineWriter::new(is_json),
            records: Vec::new(),
            piece: Piece::default(),
            output,
            untold: 0,
            is_failing: false,
            warned: None,
        };
        (desk, producers)
    }

    fn run(mut self, flushed: &watch::Sender<u64>) {
        let mut vain_looks = 0;
        loop {
            // What cores have noted and counted before somebody asked is visible with it.
            let wanted = self.figures.flushes_wanted.load(Acquire);
            let is_flush = wanted > *flushed.borrow();
            let is_over = self.cores.iter().all(|core| core.ring.is_abandoned());
            let found = self.look(is_flush || is_over);
            if found {
                // The system says nothing where no file can be opened, and a counter never falls.
                self.figures.counts.cpu_us.fetch_max(baiwan_driver::thread_cpu_time().as_micros() as u64, Relaxed);
            }
            flushed.send_replace(wanted);
            if is_over {
                return;
            }
            vain_looks = if found { 0 } else { vain_looks + 1 };
            match vain_looks < VAIN_LOOKS_MAX {
                true => thread::park_timeout(INTERVAL),
                false => self.sleep(wanted),
            }
        }
    }

    /// Waits until a core has something. What a core noted before it could see that it must wake this thread is visible here a tenth of a
    /// second later, without a fence in the path of every request.
    fn sleep(&self, flushed: u64) {
        self.figures.is_asleep.store(true, Relaxed);
        thread::park_timeout(INTERVAL);
        let is_idle = |core: &Core| core.ring.is_empty() && !core.ring.is_abandoned();
        let is_wanted = self.figures.flushes_wanted.load(Relaxed) > flushed;
        if self.cores.iter().all(is_idle) && !is_wanted && self.figures.is_asleep.load(Relaxed) {
            thread::park();
        }
        self.figures.is_asleep.store(false, Relaxed);
    }

    /// Writes what is in the rings. Returns whether there was anything. `is_last` tells of what was lost, even if no line follows.
    fn look(&mut self, is_last: bool) -> bool {
        let time = now();
        // The wall time at which the log was begun, as the clock has it now: a disk may let the next look at the file wait.
        let begun_us = wall_time_us() - microseconds(time.saturating_duration_since(self.figures.begun));
        let exchanges = self.figures.counts.exchanges();
        let one_in = self.sampling.handle_count(time, exchanges - self.exchanges_seen);
        let found = exchanges > self.exchanges_seen;
        self.exchanges_seen = exchanges;
        self.figures.one_in.store(one_in, Relaxed);
        if (found || is_last)
            && let Err(error) = self.output.check(time)
        {
            self.note_failure(&error);
        }
        for index in 0..self.cores.len() {
            let core = &mut self.cores[index];
            let lost = self.figures.counts.cores[index].lost.load(Relaxed);
            take(&mut core.ring, &mut self.records);
            let lost_since = lost - std::mem::replace(&mut core.lost_seen, lost);
            let records = std::mem::take(&mut self.records);
            let mut rest = &records[..];
            if self.untold > 0 && (!rest.is_empty() || is_last) {
                self.push_gap();
            }
            while let Some(record) = Record::decode(&mut rest) {
                self.lines.push(&mut self.piece.text, &record, begun_us + (record.ended_ns / 1000) as i64);
                self.piece.lines.push(LineOf::Exchanges(record.weight));
                if self.piece.text.len() >= PIECE_BYTES {
                    self.write_piece();
                }
            }
            debug_assert!(rest.is_empty(), "a ring holds whole records");
            self.records = records;
            self.untold += lost_since;
            if lost_since > 0 {
                self.push_gap();
            }
        }
        self.write_piece();
        found
    }

    /// Says how many lines are missing here.
    fn push_gap(&mut self) {
        let missing = std::mem::take(&mut self.untold);
        self.lines.push_gap(&mut self.piece.text, missing, wall_time_us());
        self.piece.lines.push(LineOf::Gap(missing));
    }

    fn write_piece(&mut self) {
        if self.piece.text.is_empty() {
            return;
        }
        let written = self.output.write(&self.piece.text);
        if let Err(Unwritten { taken, .. }) = &written {
            let whole = self.piece.text[..*taken].iter().filter(|byte| **byte == b'\n').count();
            for line in &self.piece.lines[whole..] {
                let (LineOf::Exchanges(count) | LineOf::Gap(count)) = *line;
                self.untold += count;
                if let LineOf::Exchanges(_) = line {
                    self.figures.counts.unwritten.fetch_add(count, Relaxed);
                }
            }
        }
        self.piece.text.clear();
        self.piece.lines.clear();
        match written {
            Err(unwritten) => self.note_failure(&unwritten.error),
            Ok(()) if self.output.is_astray() => {}
            Ok(()) if std::mem::take(&mut self.is_failing) => say(|| tracing::info!("the access log is written again")),
            Ok(()) => {}
        }
    }

    /// Tells the operator, who hears the same at most once a minute.
    fn note_failure(&mut self, error: &io::Error) {
        let now = now();
        let is_due = self.warned.is_none_or(|warned| now.duration_since(warned) >= WARNING_PAUSE);
        if is_due && !self.is_failing {
            (self.is_failing, self.warned) = (true, Some(now));
            const MEANWHILE: &str = "until it can, its lines are lost and counted, or in the file that was moved away";
            say(|| tracing::warn!(%error, "the access log cannot be written: {MEANWHILE}"));
        }
    }
}

/// Takes all that is in a ring, which has room again at once.
fn take(ring: &mut rtrb::Consumer<u8>, records: &mut Vec<u8>) {
    records.clear();
    if let Ok(chunk) = ring.read_chunk(ring.slots()) {
        let (first, second) = chunk.as_slices();
        records.extend_from_slice(first);
        records.extend_from_slice(second);
        chunk.commit_all();
    }
}

fn microseconds(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::StatusCode;
    use serde_json::Value;

    use super::super::ring::RING_BYTES_MAX;
    use super::*;
    use crate::observe::Exchange;

    fn desk(path: &Path, sample_above: Option<u64>) -> (Desk, Vec<Producer>) {
        Desk::new(&AccessLog::file(path).sample_above(sample_above), 2)
    }

    fn note(core: &Producer, path: &str, status: StatusCode) {
        note_denied(core, path, status, None);
    }

    fn note_denied(core: &Producer, path: &str, status: StatusCode, denied: Option<&'static str>) {
        core.note(&Exchange { path: Some(path), denied, ..Exchange::answered(status) });
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn row_62_what_finds_no_room_is_told_at_its_place_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (mut desk, cores) = desk(&path, None);
        let long = "/".repeat(300);
        let noted = RING_BYTES_MAX as u64 / 300;
        (0..noted).for_each(|_| note(&cores[0], &long, StatusCode::OK));
        note(&cores[1], "/other", StatusCode::OK);
        assert!(desk.look(false));
        (0..3).for_each(|_| note(&cores[0], "/after", StatusCode::OK));
        assert!(desk.look(false) && !desk.look(false));
        let lines = lines(&path);
        let gap = lines.iter().position(|line| !line["dropped"].is_null()).unwrap();
        let lost = lines[gap]["dropped"].as_u64().unwrap();
        assert!(lost > 0 && gap as u64 == noted - lost, "{lost} after {gap} lines");
        let paths: Vec<_> = lines[gap + 1..].iter().map(|line| line["url.path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["/other", "/after", "/after", "/after"]);
        assert_eq!(desk.figures.counts.dropped(), lost);
    }

    #[test]
    fn what_a_limit_refuses_is_sampled_and_pushes_no_failure_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (mut desk, cores) = desk(&path, Some(10));
        let flood = |count| {
            (0..count)
                .for_each(|_| note_denied(&cores[0], "/", StatusCode::SERVICE_UNAVAILABLE, Some("memory-pressure")));
        };
        flood(RING_BYTES_MAX / 80);
        (0..3).for_each(|_| note(&cores[0], "/failed", StatusCode::INTERNAL_SERVER_ERROR));
        desk.look(false);
        let failed = lines(&path).iter().filter(|line| line["url.path"] == "/failed").count();
        assert_eq!(failed, 3);
        let before = lines(&path).len();
        flood(10_000);
        desk.look(false);
        let after = lines(&path).len() - before;
        assert!((1..100).contains(&after), "{after} lines");
    }

    #[test]
    fn what_cannot_be_written_is_told_when_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("later");
        let path = folder.join("access.log");
        let (mut desk, cores) = desk(&path, None);
        (0..5).for_each(|_| note(&cores[0], "/", StatusCode::OK));
        desk.look(false);
        assert_eq!((desk.figures.counts.dropped(), desk.untold), (5, 5));
        // Nothing to write: nothing is tried.
        desk.look(false);
        std::fs::create_dir(&folder).unwrap();
        desk.output.check(now() + Duration::from_secs(2)).unwrap();
        note(&cores[0], "/after", StatusCode::OK);
        desk.look(false);
        let lines = lines(&path);
        assert_eq!((&lines[0]["dropped"], &lines[1]["url.path"], lines.len()), (&5.into(), &"/after".into(), 2));
        assert_eq!((desk.figures.counts.dropped(), desk.untold), (5, 0), "each is counted once");
    }

    #[test]
    fn a_line_that_stands_for_others_says_for_how_many_and_failures_stand_for_themselves() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (mut desk, cores) = desk(&path, Some(10));
        (0..100).for_each(|_| note(&cores[0], "/burst", StatusCode::OK));
        desk.look(false);
        (0..95).for_each(|_| note(&cores[0], "/sampled", StatusCode::OK));
        (0..3).for_each(|_| note(&cores[0], "/failed", StatusCode::BAD_GATEWAY));
        // What is left out when a core ends is told as lost.
        drop(cores);
        desk.look(true);
        let lines = lines(&path);
        let of = |path: &str| {
            lines.iter().filter(|line| line["url.path"] == path).map(|line| line["sampled"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("/burst"), [(); 100].map(|()| Value::Null));
        assert_eq!(of("/sampled"), [(); 9].map(|()| Value::from(10)));
        assert_eq!(of("/failed"), [(); 3].map(|()| Value::Null));
        assert_eq!(lines.last().unwrap()["dropped"], 5);
        assert_eq!(desk.figures.counts.dropped(), 5);
    }

    #[tokio::test]
    async fn the_writer_sleeps_when_nothing_comes_and_is_woken_by_the_next_exchange() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let (mut writer, in_force) = Writer::start(&AccessLog::file(&path), 1).unwrap();
        let core = in_force.take(0).unwrap();
        for count in 1..3 {
            while !writer.figures.is_asleep.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            note(&core, "/", StatusCode::OK);
            while std::fs::read_to_string(&path).unwrap_or_default().lines().count() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        note(&core, "/last", StatusCode::OK);
        writer.flush().await;
        assert_eq!(lines(&path).len(), 3);
        drop(core);
        // The thread ends with the last core.
        writer.flushed.wait_for(|_| false).await.unwrap_err();
    }
}
