//! A stream of server-sent events, as far as a load generator wants to know: how many, when, which were left out.
//!
//! The grammar is that of the HTML standard, section 9.2.6 ("Interpreting an event stream"). An event that is to be timed carries
//! its time: its data begins with a Unix time in seconds, such as `1763833000.123456`. One that is to be missed carries a number
//! as its id, one more than that of the event before.

/// Bytes of a line that are kept: enough for a time or a number.
const LINE_KEPT: usize = 64;

/// An event that came.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Seen {
    /// The Unix time that its data begins with, in seconds.
    pub(crate) sent_at: Option<f64>,
    /// How many numbers were jumped over since the event before.
    pub(crate) missing: u64,
}

/// The resumable state of one stream.
#[derive(Debug, Default)]
pub(crate) struct EventParser {
    /// The beginning of the current line.
    line: Vec<u8>,
    /// Whether the last byte was a CR, which an LF may belong to.
    after_cr: bool,
    /// Whether the event so far has data: without any it is none.
    has_data: bool,
    sent_at: Option<f64>,
    number: Option<u64>,
    last_number: Option<u64>,
}

impl EventParser {
    pub(crate) fn feed(&mut self, bytes: &[u8], on_event: &mut dyn FnMut(Seen)) {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => {}
                b'\r' | b'\n' => self.end_line(on_event),
                _ if self.line.len() < LINE_KEPT => self.line.push(byte),
                _ => {}
            }
            self.after_cr = byte == b'\r';
        }
    }

    fn end_line(&mut self, on_event: &mut dyn FnMut(Seen)) {
        if self.line.is_empty() {
            if self.has_data {
                on_event(self.seen());
            }
            (self.has_data, self.sent_at, self.number) = (false, None, None);
            return;
        }
        let line = std::mem::take(&mut self.line);
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" if !self.has_data => {
                self.has_data = true;
                self.sent_at = leading_number(value);
            }
            b"id" => self.number = str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            _ => {}
        }
        // The memory is used again.
        self.line = line;
        self.line.clear();
    }

    fn seen(&mut self) -> Seen {
        let missing = match (self.last_number, self.number) {
            (Some(last), Some(number)) => number.saturating_sub(last.saturating_add(1)),
            _ => 0,
        };
        self.last_number = self.number.or(self.last_number);
        Seen { sent_at: self.sent_at, missing }
    }
}

/// The decimal number that a text begins with.
fn leading_number(text: &[u8]) -> Option<f64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(text.len());
    str::from_utf8(&text[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stream: &str) -> Vec<Seen> {
        let whole = seen_in_pieces(stream, stream.len());
        for piece in 1..5 {
            assert_eq!(seen_in_pieces(stream, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn seen_in_pieces(stream: &str, piece: usize) -> Vec<Seen> {
        let (mut parser, mut all) = (EventParser::default(), Vec::new());
        for bytes in stream.as_bytes().chunks(piece) {
            parser.feed(bytes, &mut |seen| all.push(seen));
        }
        all
    }

    #[test]
    fn events_are_counted_as_the_standard_has_them() {
        assert_eq!(seen("data: a\n\ndata: b\r\n\r\ndata:c\rdata: d\r\r: comment\n\nevent: x\n\ndata\n\n").len(), 4);
        assert_eq!(seen("data: not ended\n").len(), 0);
    }

    #[test]
    fn a_time_and_what_is_missing_are_read() {
        let all =
            seen("id: 7\ndata: 12.5 hello\n\nid: 8\ndata: x\n\nid: 11\ndata: 13\n\ndata: 14\n\nid: 12\ndata: y\n\n");
        let times: Vec<_> = all.iter().map(|seen| seen.sent_at).collect();
        assert_eq!(times, [Some(12.5), None, Some(13.0), Some(14.0), None]);
        assert_eq!(all.iter().map(|seen| seen.missing).collect::<Vec<_>>(), [0, 0, 2, 0, 0]);
    }

    #[test]
    fn the_greatest_number_is_no_number_too_many() {
        let all = seen(&format!("id: {}\ndata\n\nid: 3\ndata\n\n", u64::MAX));
        assert_eq!(all.iter().map(|seen| seen.missing).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let mut parser = EventParser::default();
        parser.feed(&[b'x'; 100_000], &mut |_| {});
        assert!(parser.line.capacity() <= 2 * LINE_KEPT);
    }
}
