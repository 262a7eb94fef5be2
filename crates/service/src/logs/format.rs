//! How a line of the log looks: a JSON object, or text for people.
//!
//! Both name the request that was being handled when the line was made. That is known from the loop that polls the handler, so no span is
//! opened for a request. What is said in a task that a handler has spawned names no request.
//!
//! The invariant: a line is one line, and has the fields that were said and no other, whatever was sent by a client and is said in it. As
//! text, what is in quotes ends with them; a message without quotes has no `=` in it, so the first field begins before the first `=`.

use std::fmt;

use baiwan::RequestId;
use baiwan::lines::{push_json, push_readable};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// What the crate `log` calls the target of its lines, which `tracing` only passes on.
const TARGET_OF_LOG: &str = "log.target";

/// Writes an event as a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) json: bool,
    /// For text: the level has a colour.
    pub(super) colours: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said { json: self.json, ..Said::default() };
        event.record(&mut said);
        let metadata = event.metadata();
        let target = said.target.as_deref().unwrap_or(metadata.target());
        let line = match self.json {
            true => object(metadata.level(), &said.message, &said.fields, target),
            false => said.text(metadata.level(), target, self.colours),
        };
        writer.write_str(&line)
    }
}

/// A line of JSON. `fields` is what it says beside its message, each member with a comma before it.
pub(super) fn object(level: impl fmt::Display, message: &str, fields: &str, target: &str) -> String {
    let mut line = format!("{{\"timestamp\":\"{}\",\"level\":\"{level}\",\"message\":", clock::now_precise());
    push_json_text(&mut line, message);
    line += fields;
    line += ",\"target\":";
    push_json_text(&mut line, target);
    for (name, text) in request_members() {
        line += &format!(",\"{name}\":");
        push_json_text(&mut line, &text);
    }
    line + "}\n"
}

/// The request that is being handled, as members of a line: what it is called, and which trace it is a part of.
fn request_members() -> impl Iterator<Item = (&'static str, String)> {
    let request = RequestId::current();
    let trace = request.as_ref().and_then(|id| Some(id.trace_context()?.trace_id().to_owned()));
    let id = request.map(|id| id.as_str().to_owned());
    id.map(|id| ("request_id", id)).into_iter().chain(trace.map(|trace| ("trace_id", trace)))
}

/// What an event says.
#[derive(Default)]
struct Said {
    json: bool,
    message: String,
    /// Everything beside the message, in the form of the line.
    fields: String,
    target: Option<String>,
}

impl Said {
    fn text(&self, level: &Level, target: &str, colours: bool) -> String {
        let [on, off] = if colours { [colour(level), "\x1b[0m"] } else { [""; 2] };
        let mut line = format!("{} {on}{level:>5}{off} {target}: ", clock::now_precise());
        push_message(&mut line, &self.message);
        line += &self.fields;
        for (name, text) in request_members() {
            line += &format!(" {name}={text}");
        }
        line + "\n"
    }

    /// Begins a member.
    fn push_name(&mut self, name: &str) {
        match self.json {
            true => {
                self.fields.push(',');
                push_json_text(&mut self.fields, name);
                self.fields.push(':');
            }
            false => self.fields += &format!(" {name}="),
        }
    }

    fn push_text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "message" => text.clone_into(&mut self.message),
            TARGET_OF_LOG => self.target = Some(text.to_owned()),
            name if name.starts_with("log.") => {}
            name => {
                self.push_name(name);
                match self.json {
                    true => push_json_text(&mut self.fields, text),
                    // What a client has sent must not look like another field.
                    false if text.is_empty() || text.contains(needs_quotes) => push_quoted(&mut self.fields, text),
                    false => push_readable(&mut self.fields, text),
                }
            }
        }
    }

    /// What is written as it is, in JSON too.
    fn push_bare(&mut self, field: &Field, text: &str) {
        // The line of code of the crate `log`.
        if !field.name().starts_with("log.") {
            self.push_name(field.name());
            self.fields += text;
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.push_bare(field, &format!("{value:?}")),
            false => self.push_text(field, &value.to_string()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_bare(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_bare(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_bare(field, &value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, &format!("{value:?}"));
    }
}

fn needs_quotes(char: char) -> bool {
    char.is_whitespace() || matches!(char, '=' | '"' | '\\')
}

/// Appends what a line of text says before its fields, in quotes if it may look as if it had some.
pub(super) fn push_message(line: &mut String, message: &str) {
    match message.starts_with('"') || message.contains('=') {
        true => push_quoted(line, message),
        false => push_readable(line, message),
    }
}

/// Appends `text` in quotes, which end where it ends.
fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    for part in text.split_inclusive(['"', '\\']) {
        let plain = part.trim_end_matches(['"', '\\']);
        push_readable(line, plain);
        if plain.len() < part.len() {
            line.push('\\');
            *line += &part[plain.len()..];
        }
    }
    line.push('"');
}

fn push_json_text(line: &mut String, text: &str) {
    let mut bytes = std::mem::take(line).into_bytes();
    push_json(&mut bytes, text.as_bytes());
    // What was appended is ASCII.
    *line = String::from_utf8(bytes).unwrap_or_default();
}

fn colour(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of what is said, without their timestamps.
    fn lines(json: bool, colours: bool, say: impl FnOnce()) -> Vec<String> {
        let output = Output::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .event_format(Lines { json, colours })
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, say);
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        text.split_terminator('\n').map(ToOwned::to_owned).collect()
    }

    fn say_hostile() {
        let hostile = "a\r\nb\u{1b}[2J\u{202e}\u{2028}\0\"\\é";
        tracing::warn!(field = hostile, shown = %hostile, "{hostile}");
    }

    #[test]
    fn numbers_are_numbers_and_texts_are_texts() {
        let said = lines(true, false, || {
            let error = io::Error::other("no");
            tracing::info!(target: "here", count = 3_u64, less = -1, half = 0.5, none = f64::NAN, is = true, some = ?Some(1), %error, "said");
        });
        let [line] = &said[..] else { panic!("{said:?}") };
        let mut members: Value = serde_json::from_str(line).unwrap();
        let timestamp = members["timestamp"].take();
        assert_eq!(timestamp.as_str().unwrap().len(), "2026-11-22T10:15:00.123456Z".len());
        let expected = json!({
            "timestamp": null, "level": "INFO", "message": "said", "count": 3, "less": -1, "half": 0.5, "none": "NaN", "is": true,
            "some": "Some(1)", "error": "no", "target": "here",
        });
        assert_eq!(members, expected);
    }

    #[test]
    fn row_62_whatever_is_said_is_one_line() {
        for (json, colours) in [(true, false), (false, false), (false, true)] {
            let said = lines(json, colours, say_hostile);
            let [line] = &said[..] else { panic!("{said:?}") };
            assert!(!line.contains(|char: char| char != '\u{1b}' && char.is_control()), "{line:?}");
            assert!(!line.contains(['\u{202e}', '\u{2028}']), "{line:?}");
            assert_eq!(line.matches('\u{1b}').count(), if colours { 2 } else { 0 }, "{line:?}");
        }
        let [line] = &lines(true, false, say_hostile)[..] else { panic!("one line") };
        let members: Value = serde_json::from_str(line).unwrap();
        assert_eq!(members["field"], "a\r\nb\u{1b}[2J\u{202e}\u{2028}\0\"\\é");
        assert_eq!((&members["message"], &members["shown"]), (&members["field"], &members["field"]));
    }

    #[test]
    fn no_text_looks_like_another_field_to_people() {
        for (text, expected) in [
            (r#"x y" request_id="4bf9"#, r#" field="x y\" request_id=\"4bf9""#),
            ("a=b", r#" field="a=b""#),
            (r#"""#, r#" field="\"""#),
            (r#"\" a=b"#, r#" field="\\\" a=b""#),
            ("ends\\", r#" field="ends\\""#),
            ("a\nb", r#" field="a\nb""#),
            ("plain/1", " field=plain/1"),
            ("", r#" field="""#),
        ] {
            let said = lines(false, false, || tracing::warn!(target: "here", field = text, "said"));
            assert!(said[0].ends_with(&format!("here: said{expected}")), "{said:?}, not {expected}");
        }
    }

    #[test]
    fn no_message_looks_like_fields_to_people() {
        for (message, expected) in [
            ("said", "said"),
            ("Zoë said \"no\" to C:\\", "Zoë said \"no\" to C:\\"),
            ("said request_id=4bf9", r#""said request_id=4bf9""#),
            (r#"said" request_id="4bf9"#, r#""said\" request_id=\"4bf9""#),
            (r#""said" "#, r#""\"said\" ""#),
            (r"said\ a=b\", r#""said\\ a=b\\""#),
            ("said\r\na=b", r#""said\r\na=b""#),
            ("said\u{2028}\u{1b}[2J", r"said\u{2028}\u{1b}[2J"),
            ("=", r#""=""#),
            ("", ""),
        ] {
            let said = lines(false, false, || tracing::warn!(target: "here", count = 1, "{message}"));
            assert!(said[0].ends_with(&format!(" here: {expected} count=1")), "{said:?}, not {expected}");
        }
    }

    #[test]
    fn people_read_what_is_said_first() {
        let said =
            lines(false, false, || tracing::warn!(target: "here", of = "two words", count = 1, "Zoë said \"no\""));
        assert!(said[0].ends_with("Z  WARN here: Zoë said \"no\" of=\"two words\" count=1"), "{said:?}");
    }
}
