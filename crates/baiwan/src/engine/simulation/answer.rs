//! Answers as a peer reads them: framing, ids and every byte of their bodies.

use super::Verdict;
use super::app::body_of;
use super::plan::{Asking, Expect};

/// What was read next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// `100 Continue`.
    Continue,
    /// The head of an answer; `ours` if it is the app's.
    Head { status: u16, closes: bool, ours: bool },
    /// The end of an answer.
    Complete,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    /// The number of bytes that are left.
    Length(usize),
    /// A chunk's size line comes.
    ChunkSize,
    /// The number of bytes of a chunk that are left, before its line end.
    Chunk(usize),
    /// The line end of a chunk comes.
    ChunkEnd,
    /// The empty line after the last chunk comes.
    LastLine,
}

/// The answers of one connection, read so far.
#[derive(Default, Debug)]
pub(super) struct Answers {
    unread: Vec<u8>,
    framing: Option<Framing>,
    /// The id of the answer that is being read, if it is the app's.
    id: Option<u32>,
    at: usize,
    length: Option<usize>,
    go_on: bool,
    /// The rest is the body of an answer of the server's own, which may have one or, after a HEAD, not.
    over: bool,
}

impl Answers {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Whether the first request may send its body.
    pub(super) fn may_go_on(&self) -> bool {
        self.go_on || self.framing.is_some()
    }

    pub(super) fn is_in_body(&self) -> bool {
        self.framing.is_some()
    }

    /// What follows the head that was read last; an answer of the server's own says why in there.
    pub(super) fn rest(&self) -> String {
        String::from_utf8_lossy(prefix(&self.unread, 80)).into_owned()
    }

    /// Bytes of the current body so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What was read next for the first request that is due; `None` until more has come.
    pub(super) fn next(&mut self, due: Option<&Asking>) -> Result<Option<Seen>, Verdict> {
        match self.framing {
            None if self.over => Ok(None),
            None => self.head(due),
            Some(framing) => self.body(framing),
        }
    }

    fn head(&mut self, due: Option<&Asking>) -> Result<Option<Seen>, Verdict> {
        let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") else {
            return match self.unread.len() > 4096 || !b"HTTP/1.1 ".starts_with(prefix(&self.unread, 9)) {
                true => Err(format!("not an answer: {:?}", String::from_utf8_lossy(prefix(&self.unread, 80)))),
                false => Ok(None),
            };
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        self.unread.drain(..end + 4);
        let malformed = || format!("a malformed head: {head:?}");
        let status: u16 = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
        if !head.starts_with("http/1.1 ") {
            return Err(malformed());
        }
        if status == 100 {
            let wanted = due.is_some_and(|due| due.waits) && !std::mem::replace(&mut self.go_on, true);
            return if wanted { Ok(Some(Seen::Continue)) } else { Err("a 100 Continue that nobody waits for".into()) };
        }
        let field = |name: &str| head.split("\r\n").skip(1).find_map(|line| line.strip_prefix(name));
        let id = field("x-id: ").map(|id| id.parse().map_err(|_| malformed())).transpose()?;
        let closes = field("connection: ").is_some_and(|value| value == "close");
        if id.is_some() && id != due.map(|due| due.id) {
            return Err(format!("the answer to {id:?} instead of {:?}", due.map(|due| due.id)));
        }
        if id.is_some() != (status == 200) {
            return Err(malformed());
        }
        let chunked = field("transfer-encoding: ").is_some();
        let length = field("content-length: ").map(|length| length.parse().map_err(|_| malformed())).transpose()?;
        let no_body = due.is_some_and(|due| due.head_request);
        self.over = no_body && id.is_none();
        self.framing = match (no_body, chunked, length) {
            (true, ..) => Some(Framing::Length(0)),
            (false, true, None) => Some(Framing::ChunkSize),
            (false, false, Some(length)) => Some(Framing::Length(length)),
            _ => return Err(malformed()),
        };
        self.length = match due.map(|due| due.expect) {
            Some(Expect::Body(expected)) if id.is_some() => {
                if length.is_some_and(|length| length != expected) {
                    return Err(format!("{length:?} bytes announced instead of {expected}"));
                }
                (!no_body).then_some(expected)
            }
            Some(Expect::Cut) if id.is_some() => Some(usize::MAX),
            _ => None,
        };
        (self.id, self.at) = (id, 0);
        Ok(Some(Seen::Head { status, closes, ours: id.is_some() }))
    }

    fn body(&mut self, framing: Framing) -> Result<Option<Seen>, Verdict> {
        let line = |bytes: &[u8]| bytes.windows(2).position(|window| window == b"\r\n");
        let next = match framing {
            Framing::Length(0) => return self.complete().map(Some),
            Framing::Length(left) => match self.data(left)? {
                0 => return Ok(None),
                taken => Framing::Length(left - taken),
            },
            Framing::ChunkSize => {
                let Some(end) = line(&self.unread) else { return Ok(None) };
                let size = std::str::from_utf8(&self.unread[..end]).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                let size = size.ok_or("a malformed chunk size")?;
                self.unread.drain(..end + 2);
                if size == 0 { Framing::LastLine } else { Framing::Chunk(size) }
            }
            Framing::Chunk(left) => match self.data(left)? {
                0 => return Ok(None),
                taken if taken == left => Framing::ChunkEnd,
                taken => Framing::Chunk(left - taken),
            },
            Framing::ChunkEnd | Framing::LastLine => {
                if self.unread.len() < 2 {
                    return Ok(None);
                }
                if !self.unread.starts_with(b"\r\n") {
                    return Err("a chunk is not as long as it said".into());
                }
                self.unread.drain(..2);
                if framing == Framing::LastLine {
                    return self.complete().map(Some);
                }
                Framing::ChunkSize
            }
        };
        self.framing = Some(next);
        // Nothing to say yet; there may be more to read.
        self.body(next)
    }

    /// Takes and checks at most `most` bytes of a body.
    fn data(&mut self, most: usize) -> Result<usize, Verdict> {
        let mut taken = 0;
        while taken < most && taken < self.unread.len() {
            let count = (most - taken).min(self.unread.len() - taken).min(4096);
            let piece = &self.unread[taken..taken + count];
            if let Some(id) = self.id
                && piece != body_of(id, self.at, count)
            {
                return Err(format!("wrong bytes in the answer to {id}, at {}", self.at));
            }
            self.at += count;
            taken += count;
        }
        self.unread.drain(..taken);
        Ok(taken)
    }

    fn complete(&mut self) -> Result<Seen, Verdict> {
        if self.length.is_some_and(|length| length != self.at) {
            return Err(format!("an answer of {} bytes instead of {:?}", self.at, self.length));
        }
        (self.framing, self.id, self.at, self.go_on) = (None, None, 0, false);
        Ok(Seen::Complete)
    }
}

fn prefix(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}
