//! What the two processes say to each other: messages to text, and text to messages. Pure; no socket.
//!
//! ```text
//!   baiwan-takeover 1 hello
//!
//!   baiwan-takeover 1 sockets
//!   pid 4711
//!   total 4
//!   server
//!   server
//!   admin
//!   door
//!
//! ```
//!
//! Each line of a role is one descriptor that comes with the message, in that order. Where `total` is more than a message can carry, further
//! messages of this kind follow.
//!
//! The invariant: text that is no message of this version is refused, with a reason that names what is wrong.

use std::fmt::Write;

use baiwan_driver::MESSAGE_FDS_MAX;

/// Changes with every change of what is said here.
pub(super) const VERSION: &str = "1";
const NAME: &str = "baiwan-takeover";
/// Bytes of one message.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Sockets that are handed over in all.
pub(super) const SOCKETS_MAX: usize = 16 * 1024;

/// Files of Unix sockets that are handed over, and bytes of the path of one; others stay where they are at the end.
pub(super) const FILES_MAX: usize = 60;
pub(super) const FILE_BYTES_MAX: usize = 256;
const _: () = assert!(FILES_MAX * (FILE_BYTES_MAX + 1) < MESSAGE_BYTES_MAX);

const END: &str = "\n\n";

/// What listens on a socket that is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The server: a socket of one core, or one that cores share.
    Server,
    /// The admin side.
    Admin,
    /// The socket through which the next process takes over.
    Door,
}

const ROLES: [(Role, &str); 3] = [(Role::Server, "server"), (Role::Admin, "admin"), (Role::Door, "door")];

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// The new process wants to take over.
    Hello,
    /// The process `pid` listens on `total` sockets; these are some of them.
    Sockets { pid: u32, total: usize, roles: Vec<Role> },
    /// The new process serves as soon as it may.
    Ready,
    /// The new process may, and the old one accepts no more. The files of its Unix sockets, by their absolute paths, are left to the new one.
    Released(Vec<String>),
    /// It comes to nothing, and why.
    Refused(String),
}

impl Message {
    /// The message as it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = format!("{NAME} {VERSION} ");
        // A String takes whatever is written to it.
        let _ = match self {
            Self::Hello => write!(text, "hello"),
            Self::Ready => write!(text, "ready"),
            Self::Released(files) => {
                text += "released";
                files.iter().try_for_each(|file| write!(text, "\n{file}"))
            }
            Self::Refused(why) => write!(text, "refused\n{}", why.replace('\n', " ")),
            Self::Sockets { pid, total, roles } => {
                let _ = write!(text, "sockets\npid {pid}\ntotal {total}");
                roles.iter().try_for_each(|role| write!(text, "\n{}", role.name()))
            }
        };
        text += END;
        text.into_bytes()
    }

    /// Takes the first message out of what was received. None if it is not all there.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn take(received: &mut Vec<u8>) -> Result<Option<Self>, String> {
        let Some(length) = received.windows(END.len()).position(|bytes| bytes == END.as_bytes()) else {
            let is_too_long = received.len() > MESSAGE_BYTES_MAX;
            return if is_too_long { Err("a message without an end".to_owned()) } else { Ok(None) };
        };
        let text: Vec<u8> = received.drain(..length + END.len()).collect();
        let text = std::str::from_utf8(&text[..length]).map_err(|_| "a message that is no text".to_owned())?;
        Self::parse(text).map(Some)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [NAME, version, kind] = words[..] else { return Err(format!("something else than {NAME}")) };
        if version != VERSION {
            return Err(format!(
                "version {version:.20} of the takeover's protocol; this process speaks version {VERSION}"
            ));
        }
        let lines: Vec<&str> = lines.collect();
        match (kind, &lines[..]) {
            ("hello", []) => Ok(Self::Hello),
            ("ready", []) => Ok(Self::Ready),
            ("released", files) if files.iter().all(|file| file.starts_with('/')) => {
                Ok(Self::Released(files.iter().map(|file| (*file).to_owned()).collect()))
            }
            ("refused", [why]) => Ok(Self::Refused((*why).to_owned())),
            ("sockets", [pid, total, roles @ ..]) => Self::parse_sockets(pid, total, roles),
            _ => Err(format!("a message {kind:.20?} that cannot be read")),
        }
    }

    fn parse_sockets(pid: &str, total: &str, roles: &[&str]) -> Result<Self, String> {
        let number = |line: &str, name: &str| {
            let digits = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
            digits.and_then(|digits| digits.parse::<u32>().ok()).ok_or_else(|| format!("a message without {name}"))
        };
        let (pid, total) = (number(pid, "pid")?, number(total, "total")? as usize);
        if total > SOCKETS_MAX || roles.len() > MESSAGE_FDS_MAX || roles.len() > total {
            return Err(format!("{} of {total} sockets, which are too many", roles.len()));
        }
        let roles = roles.iter().map(|line| Role::of(line)).collect::<Result<_, _>>()?;
        Ok(Self::Sockets { pid, total, roles })
    }

    /// What was said instead of what is waited for.
    pub(super) fn unexpected(self) -> String {
        match self {
            Self::Refused(why) => why,
            other => {
                let text = String::from_utf8_lossy(&other.encode()).into_owned();
                format!("a message {:?} at the wrong time", text.lines().next().unwrap_or_default())
            }
        }
    }
}

impl Role {
    fn name(self) -> &'static str {
        ROLES[self as usize].1
    }

    fn of(line: &str) -> Result<Self, String> {
        let found = ROLES.iter().find(|(_, name)| *name == line);
        found.map(|(role, _)| *role).ok_or_else(|| format!("a socket for {line:.20?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<Message>, String> {
        Message::take(&mut text.as_bytes().to_vec())
    }

    #[test]
    fn every_message_is_read_as_it_was_meant_byte_by_byte_too() {
        let sockets = Message::Sockets { pid: 7, total: 300, roles: vec![Role::Server, Role::Admin, Role::Door] };
        let refused = Message::Refused("a reason".to_owned());
        let released = Message::Released(vec!["/run/a b.sock".to_owned(), "/run/c".to_owned()]);
        for message in [Message::Hello, sockets, Message::Ready, Message::Released(Vec::new()), released, refused] {
            let text = message.encode();
            let mut received = Vec::new();
            for byte in &text[..text.len() - 1] {
                received.push(*byte);
                assert_eq!(Message::take(&mut received), Ok(None));
            }
            received.extend([b'\n', b'x']);
            assert_eq!(Message::take(&mut received), Ok(Some(message)));
            assert_eq!(received, b"x", "what follows is another message's");
        }
    }

    #[test]
    fn another_version_is_named_beside_ours() {
        let said = take("baiwan-takeover 2 hello\n\n").unwrap_err();
        assert!(said.contains("version 2") && said.contains("version 1"), "{said}");
    }

    #[test]
    fn what_is_no_message_is_refused_with_what_is_wrong() {
        for (text, expected) in [
            ("GET / HTTP/1.1\n\n", "something else"),
            ("\n\n", "something else"),
            ("baiwan-takeover 1 hello\nmore\n\n", "\"hello\""),
            ("baiwan-takeover 1 goodbye\n\n", "\"goodbye\""),
            ("baiwan-takeover 1 released\na.sock\n\n", "\"released\""),
            ("baiwan-takeover 1 sockets\n\n", "\"sockets\""),
            ("baiwan-takeover 1 sockets\npid -1\ntotal 1\nserver\n\n", "without pid"),
            ("baiwan-takeover 1 sockets\npid 1\nserver\n\n", "without total"),
            ("baiwan-takeover 1 sockets\npid 1\ntotal 1\nmaster\n\n", "\"master\""),
            ("baiwan-takeover 1 sockets\npid 1\ntotal 1\nserver\nserver\n\n", "too many"),
            ("baiwan-takeover 1 sockets\npid 1\ntotal 4000000000\nserver\n\n", "too many"),
        ] {
            let said = take(text).unwrap_err();
            assert!(said.contains(expected), "{text:?}: {said}");
        }
        let crowd = format!("baiwan-takeover 1 sockets\npid 1\ntotal 300{}\n\n", "\nserver".repeat(254));
        assert!(take(&crowd).unwrap_err().contains("too many"));
        assert!(Message::take(&mut b"\xff\n\n".to_vec()).unwrap_err().contains("no text"));
        let endless = vec![b'x'; MESSAGE_BYTES_MAX + 1];
        assert!(Message::take(&mut endless.clone()).unwrap_err().contains("without an end"));
    }

    #[test]
    fn a_full_message_is_within_its_bound() {
        let roles = vec![Role::Server; MESSAGE_FDS_MAX];
        let text = Message::Sockets { pid: u32::MAX, total: SOCKETS_MAX, roles }.encode();
        assert!(text.len() <= MESSAGE_BYTES_MAX, "{}", text.len());
    }
}
