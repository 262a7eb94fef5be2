//! Logs, and everything else that is said to the operator, go to standard error, so that all of it is in one place
//! and in order. Standard output is for the access log, which the event loop writes (`baiwan::AccessLog`).
//!
//! What observes never harms what is observed: whatever becomes of standard error, no core waits for it, nothing ends by
//! it, and lines that cannot be written are counted ([`lost_lines`]). `queue` says how, `format` what a line looks like, and `level` which
//! there are.

mod format;
mod level;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::format::{Lines, object, push_message};
use self::queue::Queue;
use crate::config::LogFormat;

pub use self::level::{log_level, set_log_level};

/// How long the end of the process waits for a standard error that takes nothing.
const LAST_LINES_PATIENCE: Duration = Duration::from_secs(1);
/// How long a panic that ends the process waits for its line to be written.
const PANIC_PATIENCE: Duration = Duration::from_millis(100);

/// The lines of this process, once logging was started.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Starts logging for the process and says whether it is JSON. `level` was checked when the settings were read.
///
/// From here on lines are written by a thread of their own, and panics are lines of the log. To be called before the cores
/// start, whose fd tables may part; whoever ends the process holds [`LastLines`].
///
/// # Errors
///
/// Logging was started before, `level` is no filter, or the system has no thread left.
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<bool> {
    let json = is_json(format);
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let colours = io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb;
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines { json, colours })
        .with_writer(|| Log)
        // It would be said with `eprintln!`, which panics where standard error is gone.
        .log_internal_errors(false);
    let started = tracing_subscriber::registry().with(level::begin(level)?).with(lines).try_init();
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))?;
    let queue = Arc::new(Queue::new(move |lines| gap_line(json, lines)));
    let writer = Arc::clone(&queue);
    std::thread::Builder::new().name("baiwan-log".to_owned()).spawn(move || writer.write_to(io::stderr()))?;
    // It was empty: a second call has left above.
    let _ = QUEUE.set(queue);
    std::panic::set_hook(Box::new(move |panic| say_panic(json, panic)));
    Ok(json)
}

/// Where the subscriber writes each of its lines, in one piece.
struct Log;

impl Write for Log {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        print(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    }
}

/// Says in the format of the log why nothing runs: one line for each of `reasons`, whatever the level of the log.
pub fn print_fatal(format: LogFormat, reasons: &[String]) {
    let json = is_json(format);
    print_to_stderr(&reasons.iter().map(|reason| line(json, "ERROR", reason, &[])).collect::<String>());
}

/// Writes `text`, whole lines, to standard error in one piece and in order with the log. It never fails; once logging was
/// started it does not wait either.
pub fn print_to_stderr(text: &str) {
    print(text.as_bytes());
}

fn print(lines: &[u8]) {
    match QUEUE.get() {
        Some(queue) => queue.push(lines),
        // There is nowhere left to report a failure.
        None => _ = io::stderr().lock().write_all(lines),
    }
}

/// Held by whoever ends the process: dropping it waits until all lines are written, but for a second at most where standard
/// error takes none.
#[derive(Debug)]
pub struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(queue) = QUEUE.get() {
            queue.flush(LAST_LINES_PATIENCE);
        }
    }
}

/// Lines of the log that were lost since the start, because standard error could not take them.
pub fn lost_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lost())
}

/// A line with the members of any other line of the log, or one for people, who are not told `numbers` apart.
fn line(json: bool, level: &str, message: &str, numbers: &[(&str, u64)]) -> String {
    let fields = numbers.iter().map(|(name, number)| format!(",\"{name}\":{number}"));
    match json {
        true => object(level, message, &fields.collect::<String>(), "baiwan"),
        false => format!("baiwan: {message}\n"),
    }
}

fn gap_line(json: bool, lines: u64) -> String {
    let why = "standard error could not be written, or nobody read it";
    line(json, "WARN", &format!("{lines} lines of the log are missing here: {why}"), &[("lines", lines)])
}

/// In place of the standard library's lines, which the thread that panics would write itself, and which are not JSON.
fn say_panic(json: bool, panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let why = panic.payload_as_str().unwrap_or("with a value that is no text");
    let mut message = format!("thread '{name}' panicked{place}: ");
    match json {
        true => message += why,
        false => push_message(&mut message, why),
    }
    // Captured where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = write!(message, "\n{backtrace}");
    }
    print_to_stderr(&line(json, "ERROR", &message, &[]));
    if ends_process(thread.name(), why)
        && let Some(queue) = QUEUE.get()
    {
        queue.flush_unless_stuck(PANIC_PATIENCE);
    }
}

/// Whether nobody can catch this panic, so that its line would be lost. Those of cores, of blocking calls and of every other thread cost what
/// they were in, and a core that waited for each of them would stand still while the log is slow.
fn ends_process(thread: Option<&str>, why: &str) -> bool {
    // The standard library calls the main thread so, and says the others before it aborts.
    let cannot_unwind = ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];
    cfg!(panic = "abort") || thread == Some("main") || cannot_unwind.contains(&why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_panic_that_ends_the_process_waits_for_its_line() {
        for (thread, why, ends) in [
            (Some("baiwan-core-0"), "on purpose", false),
            (Some("tokio-rt-worker"), "on purpose", false),
            (None, "on purpose", false),
            (Some("main"), "on purpose", true),
            (Some("baiwan-core-0"), "panic in a destructor during cleanup", true),
            (Some("baiwan-core-0"), "panic in a function that cannot unwind", true),
        ] {
            assert_eq!(ends_process(thread, why), ends, "{thread:?} {why}");
        }
    }

    #[test]
    fn a_line_of_ours_looks_like_any_other_of_the_log() {
        let words = "3 lines of the log are missing here: standard error could not be written, or nobody read it";
        assert_eq!(gap_line(false, 3), format!("baiwan: {words}\n"));
        let line = gap_line(true, 3);
        assert_eq!((line.lines().count(), line.ends_with('\n')), (1, true));
        let mut members: serde_json::Value = serde_json::from_str(&line).unwrap();
        let timestamp = members["timestamp"].take();
        assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
        let expected = json!({"timestamp": null, "level": "WARN", "message": words, "lines": 3, "target": "baiwan"});
        assert_eq!(members, expected);
    }
}
