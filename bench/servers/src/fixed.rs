//! The answer of the raw loops, which show what the kernel alone costs. They do not read requests: each empty line ends one,
//! and gets the same answer, as long as axum's to `GET /`.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The date is that of RFC 9110's example, and never another.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 5\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nhello";

/// What ends a head; no request has a body.
const END: &[u8] = b"\r\n\r\n";

/// How many answers go into one call at most.
const ANSWERS_MAX: usize = 64;

static ANSWERS: LazyLock<Vec<u8>> = LazyLock::new(|| ANSWER.repeat(ANSWERS_MAX));
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));

/// Where a connection stands: what it has sent of the next head's end, and what it is owed.
#[derive(Default)]
pub struct Exchange {
    /// Bytes of `END` that the last read ended with: 0 to 3.
    matched: usize,
    /// Bytes of answers that are not sent yet.
    owed: usize,
}

impl Exchange {
    /// Bytes have come; every head that they end is owed an answer.
    pub fn handle_received(&mut self, mut bytes: &[u8]) {
        while self.matched > 0
            && let Some((first, rest)) = bytes.split_first()
        {
            bytes = rest;
            self.step(*first);
        }
        if self.matched > 0 {
            return;
        }
        let mut after = 0;
        for start in FINDER.find_iter(bytes) {
            self.owed += ANSWER.len();
            after = start + END.len();
        }
        let rest = &bytes[after..];
        self.matched = (1..END.len()).rev().find(|length| rest.ends_with(&END[..*length])).unwrap_or(0);
    }

    fn step(&mut self, byte: u8) {
        if byte != END[self.matched] {
            self.matched = usize::from(byte == END[0]);
            return;
        }
        self.matched += 1;
        if self.matched == END.len() {
            self.matched = 0;
            self.owed += ANSWER.len();
        }
    }

    /// What is to be sent next; empty if nothing is owed.
    pub fn unsent(&self) -> &'static [u8] {
        // What is owed always ends with a whole answer.
        let begin = (ANSWER.len() - self.owed % ANSWER.len()) % ANSWER.len();
        let rest = &ANSWERS[begin..];
        &rest[..rest.len().min(self.owed)]
    }

    /// This number of bytes of [`unsent`](Self::unsent) has gone.
    ///
    /// # Panics
    /// When that is more than was owed.
    pub fn handle_sent(&mut self, count: usize) {
        assert!(count <= self.owed, "{count} bytes sent, {} owed", self.owed);
        self.owed -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    fn sent(exchange: &mut Exchange, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !exchange.unsent().is_empty() {
            let part = &exchange.unsent()[..step.min(exchange.unsent().len())];
            all.extend_from_slice(part);
            exchange.handle_sent(part.len());
        }
        all
    }

    #[test]
    fn as_many_heads_as_one_read_brings_get_as_many_answers() {
        for count in [1, 2, 7, 1000] {
            let mut exchange = Exchange::default();
            exchange.handle_received(&HEAD.repeat(count));
            assert_eq!(sent(&mut exchange, usize::MAX), ANSWER.repeat(count));
        }
    }

    #[test]
    fn heads_are_counted_wherever_reads_cut_them() {
        let heads = HEAD.repeat(3);
        for size in 1..heads.len() {
            let mut exchange = Exchange::default();
            for part in heads.chunks(size) {
                exchange.handle_received(part);
            }
            assert_eq!(sent(&mut exchange, usize::MAX), ANSWER.repeat(3), "reads of {size} bytes");
        }
    }

    #[test]
    fn lines_that_do_not_end_a_head_get_no_answer() {
        for bytes in [b"GET / HTTP/1.1\r\nhost: a\r\n".as_slice(), b"\r\r\n\n", b"\r\n\r", b"\n\r\n"] {
            let mut exchange = Exchange::default();
            for byte in bytes {
                exchange.handle_received(&[*byte]);
            }
            assert_eq!(exchange.unsent(), b"", "{bytes:?}");
        }
    }

    #[test]
    fn answers_go_on_where_a_send_left_off() {
        for step in [1, 7, ANSWER.len() - 1, ANSWER.len() + 1] {
            let mut exchange = Exchange::default();
            exchange.handle_received(&HEAD.repeat(ANSWERS_MAX + 3));
            assert_eq!(sent(&mut exchange, step), ANSWER.repeat(ANSWERS_MAX + 3), "{step} bytes at a time");
        }
    }
}
