//! The new process: it asks at the door for the listening sockets, and says when it serves.
//!
//! It runs on the thread that starts the server, and blocks it: nothing else is there yet that could turn.
//!
//! The invariant: it has sent `ready` only when all that can fail at a start has not.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baiwan_driver::{Address, BoundListener, FileIdentity, SocketFile, effective_user, peer_user, receive_fds};

use super::keeper::is_trusted;
use super::message::{Message, Role, SOCKETS_MAX};
use super::{ATTEMPT_MAX, RELEASE_MAX};
use crate::Error;
use crate::files::explain;
use crate::say::say;

/// A process that starts with the sockets of another one, which serves on meanwhile. Dropping it leaves that one as it was.
#[derive(Debug)]
pub(super) struct Heir {
    way: Way,
    /// The process that serves.
    pub(super) pid: u32,
    /// Listening sockets of the server, those of one address in the order of its cores.
    pub(super) servers: Vec<BoundListener>,
    /// That of the admin side.
    pub(super) admin: Option<BoundListener>,
    /// That of the door.
    door: Option<BoundListener>,
    /// The files of the door, and of the Unix sockets that were handed over.
    door_file: Standing,
    files: Vec<Standing>,
}

/// The file of a Unix socket, as it stood at its path while the other process served.
#[derive(Debug)]
struct Standing {
    /// An absolute one.
    path: PathBuf,
    /// No other file has it while the socket is open. None if nothing stood there.
    identity: Option<FileIdentity>,
    /// This process serves on the socket, in the place of binding one.
    is_claimed: bool,
}

/// The connection to the other process.
#[derive(Debug)]
struct Way {
    path: PathBuf,
    stream: UnixStream,
    received: Vec<u8>,
}

/// Why no message came.
enum Silence {
    /// The other process has closed the connection, or is no more.
    Gone,
    TooSlow,
    Other(String),
}

impl Heir {
    /// Asks the process that listens at `path` for its sockets. None where there is no path, or nobody listens there: then this
    /// process is the first one.
    ///
    /// # Errors
    /// [`Error::Takeover`] when that process refuses, says something that is not understood, or nothing within a minute.
    pub(super) fn ask(path: Option<&Path>) -> Result<Option<Self>, Error> {
        let Some(path) = path else { return Ok(None) };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if is_first(&error) => return Ok(None),
            Err(error) => return Err(failed(path, connect_hint(&error))),
        };
        // Of whoever listens, and not of the file: another one may stand at the path by now.
        let user = peer_user(stream.as_fd()).map_err(|error| failed(path, explain(&error)))?;
        if !is_trusted(user, effective_user()) {
            return Err(failed(path, format!("a process of the user {user} listens there, who is not trusted")));
        }
        let mut way = Way { path: path.to_owned(), stream, received: Vec::new() };
        way.wait_at_most(ATTEMPT_MAX)?;
        way.send(&Message::Hello);
        let (mut roles, mut fds) = (Vec::new(), Vec::new());
        let pid = loop {
            let message = way.receive(&mut fds).map_err(|silence| way.failed(silence))?;
            let Message::Sockets { pid, total, roles: some } = message else {
                return Err(way.refuse(message.unexpected()));
            };
            roles.extend(some);
            if roles.len() == total {
                break pid;
            }
            if roles.len() > total || fds.len() > SOCKETS_MAX {
                return Err(way.refuse(format!("more than the {total} sockets that it told of")));
            }
        };
        Self::with(way, pid, &roles, fds).map(Some)
    }

    fn with(way: Way, pid: u32, roles: &[Role], fds: Vec<OwnedFd>) -> Result<Self, Error> {
        if roles.len() != fds.len() {
            let (came, all) = (fds.len(), roles.len());
            return Err(
                way.refuse(format!("{came} of {all} sockets came: this process may open too few files (ulimit -n)"))
            );
        }
        let door_file = Standing::at(&way.path);
        let mut heir = Self { way, pid, servers: Vec::new(), admin: None, door: None, door_file, files: Vec::new() };
        for (role, fd) in roles.iter().zip(fds) {
            let taken = match role {
                // With the options of this version.
                Role::Server => BoundListener::from_fd(fd).map(|listener| heir.add_server(listener)),
                Role::Admin => BoundListener::moved(fd).map(|listener| heir.admin = Some(listener)),
                Role::Door => BoundListener::moved(fd).map(|listener| heir.door = Some(listener)),
            };
            taken.map_err(|error| heir.way.refuse(format!("one of its sockets: {}", explain(&error))))?;
        }
        if heir.door.is_none() {
            return Err(heir.way.refuse("no socket for the next process".to_owned()));
        }
        let sockets = roles.len();
        say(|| tracing::info!(pid, sockets, "starts with the listening sockets of the process that serves"));
        Ok(heir)
    }

    fn add_server(&mut self, listener: BoundListener) {
        if let Address::Unix(path) = listener.address() {
            self.files.push(Standing::at(path));
        }
        self.servers.push(listener);
    }

    /// Notes which addresses this process serves on sockets that were handed over.
    pub(super) fn note_claimed<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        for address in addresses {
            let Address::Unix(path) = address else { continue };
            let path = absolute(path);
            self.files.iter_mut().filter(|file| file.path == path).for_each(|file| file.is_claimed = true);
        }
    }

    /// The door, and which file it is at its path.
    pub(super) fn take_door(&mut self) -> Option<(BoundListener, Option<FileIdentity>)> {
        Some((self.door.take()?, self.door_file.identity))
    }

    /// Gives up, and lets the other process know why.
    pub(super) fn refuse(&self, why: String) -> Error {
        self.way.refuse(why)
    }

    /// Says that this process serves as soon as it may, and waits until it may: the other one accepts no more from here on. Returns the files
    /// of the Unix sockets that this process serves on, which are its own from here on. Those that nobody serves on any more are removed.
    ///
    /// # Errors
    /// [`Error::Takeover`] when a path does not lead to the socket any more that this process serves on, when the other process has given
    /// this one up, and serves on or stops; and when that one was killed, and the path of its door leads elsewhere.
    pub(super) fn finish(mut self) -> Result<Vec<SocketFile>, Error> {
        self.way.wait_at_most(RELEASE_MAX)?;
        let lost = self.claimed().find(|file| !file.still_stands()).map(|file| file.path.display().to_string());
        if let Some(path) = lost {
            let why = format!("its socket at {path} was removed or replaced; start this one again");
            let refusal = self.way.refuse(why);
            // A process that stops removes its files, and has said so before.
            let last_word = self.way.receive(&mut Vec::new());
            return Err(last_word.map_or(refusal, |said| failed(&self.way.path, said.unexpected())));
        }
        self.way.send(&Message::Ready);
        let pid = self.pid;
        let last_word = match self.way.receive(&mut Vec::new()) {
            Err(Silence::TooSlow) => self.way.receive_last(),
            said => said,
        };
        match last_word {
            Ok(Message::Released(files)) => {
                say(|| tracing::info!(pid, "has taken over: that process finishes what it has, and ends"));
                Ok(self.take_files(&files))
            }
            // One that stops says so; this one was killed. Nobody else serves the sockets, so this process does.
            Err(Silence::Gone) => {
                let files = self.left_behind()?;
                say(|| tracing::warn!(pid, "has taken over from a process that ended meanwhile"));
                Ok(files)
            }
            Ok(other) => Err(self.way.refuse(other.unexpected())),
            Err(silence) => Err(self.way.failed(silence)),
        }
    }

    fn claimed(&self) -> impl Iterator<Item = &Standing> {
        self.files.iter().filter(|file| file.is_claimed)
    }

    /// Those of the sockets that this process serves on, of which the other process says that they still stand at the paths `released`. Its other
    /// ones are removed. A file that has gone meanwhile is among them, so that whoever comes next is not sent to what stands in its place.
    fn take_files(self, released: &[String]) -> Vec<SocketFile> {
        let is_released = |file: &Standing| released.iter().any(|path| *file.path == **path);
        let taken = self.files.into_iter().filter(|file| is_released(file) || !file.still_stands());
        let (served, left): (Vec<_>, Vec<_>) = taken.partition(|file| file.is_claimed);
        drop(left.into_iter().filter_map(Standing::into_file).collect::<Vec<_>>());
        served.into_iter().filter_map(Standing::into_file).collect()
    }

    /// The files that a process which was killed has left.
    fn left_behind(self) -> Result<Vec<SocketFile>, Error> {
        if let Some(Standing { path, .. }) = self.claimed().chain([&self.door_file]).find(|file| !file.still_stands()) {
            let path = path.display();
            let why = format!(
                "the process that served has ended, and its socket at {path} was removed or replaced; start this one again"
            );
            return Err(failed(&self.way.path, why));
        }
        Ok(self.files.into_iter().filter(|file| file.is_claimed).filter_map(Standing::into_file).collect())
    }
}

impl Standing {
    fn at(path: &Path) -> Self {
        Self { path: absolute(path), identity: FileIdentity::at(path).ok(), is_claimed: false }
    }

    fn still_stands(&self) -> bool {
        self.identity.is_some_and(|identity| identity.is_at(&self.path))
    }

    fn into_file(self) -> Option<SocketFile> {
        Some(SocketFile::taken_over(&self.path, self.identity?))
    }
}

/// A process whose working directory is gone has no paths but those that it was given.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Way {
    fn wait_at_most(&self, length: Duration) -> Result<(), Error> {
        let set = self.stream.set_read_timeout(Some(length)).and_then(|()| self.stream.set_write_timeout(Some(length)));
        set.map_err(|error| failed(&self.path, explain(&error)))
    }

    /// What cannot be sent finds nobody: then the next receive says why.
    fn send(&self, message: &Message) {
        let _ = io::Write::write_all(&mut &self.stream, &message.encode());
    }

    /// Waits for the next message, and takes the descriptors that come with it.
    fn receive(&mut self, fds: &mut Vec<OwnedFd>) -> Result<Message, Silence> {
        loop {
            if let Some(message) = Message::take(&mut self.received).map_err(Silence::Other)? {
                return Ok(message);
            }
            let mut buffer = [0; 4096];
            match receive_fds(self.stream.as_fd(), &mut buffer, fds) {
                Ok(0) => return Err(Silence::Gone),
                Ok(taken) => self.received.extend(&buffer[..taken]),
                Err(error) => match error.kind() {
                    // It was closed with something in it that was not read.
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return Err(Silence::Gone),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(Silence::TooSlow);
                    }
                    _ => return Err(Silence::Other(explain(&error))),
                },
            }
        }
    }

    /// Has the other process send no more, and takes what it has sent before: both must come to the same end.
    fn receive_last(&mut self) -> Result<Message, Silence> {
        let _ = self.stream.shutdown(Shutdown::Read);
        match self.receive(&mut Vec::new()) {
            // What is read after the shutdown ends, whether that process is there or not.
            Err(Silence::Gone) => Err(Silence::TooSlow),
            said => said,
        }
    }

    fn failed(&self, silence: Silence) -> Error {
        match silence {
            Silence::Gone => failed(&self.path, "the process that listens there ended, or closed the connection"),
            Silence::TooSlow => self.refuse("it does not answer in time".to_owned()),
            Silence::Other(why) => self.refuse(why),
        }
    }

    /// Gives up, and lets the other process know why.
    fn refuse(&self, why: String) -> Error {
        self.send(&Message::Refused(why.clone()));
        let _ = self.stream.shutdown(Shutdown::Write);
        failed(&self.path, why)
    }
}

impl Drop for Way {
    /// Ends the connection. Cores with tables of their own have copies of it, which would keep it open for as long as they live.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Whether somebody listens at the path, from whom a process that starts would take over.
pub(in super::super) fn is_served(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Nobody listens there.
fn is_first(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn connect_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "permission denied: start it as the user of the process that serves, or as root".to_owned()
        }
        _ => explain(error),
    }
}

fn failed(path: &Path, why: impl Into<String>) -> Error {
    Error::Takeover { path: path.display().to_string(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What becomes of a process that asks one which answers `answer` to its hello.
    fn asks(answer: &'static [u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let door = UnixListener::bind(&path).unwrap();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = door.accept().unwrap();
            let mut hello = vec![0; Message::Hello.encode().len()];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(answer).unwrap();
        });
        let said = Heir::ask(Some(&path)).unwrap_err().to_string();
        other.join().unwrap();
        said
    }

    #[test]
    fn without_a_path_or_without_a_process_there_it_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        assert!(Heir::ask(None).unwrap().is_none());
        assert!(Heir::ask(Some(&path)).unwrap().is_none());
        drop(UnixListener::bind(&path).unwrap());
        assert!(Heir::ask(Some(&path)).unwrap().is_none(), "a socket that nobody listens on");
    }

    #[test]
    fn a_release_that_crosses_the_end_of_the_wait_counts_and_one_that_comes_later_cannot_be_sent() {
        for was_sent in [true, false] {
            let (stream, mut other) = UnixStream::pair().unwrap();
            let mut way = Way { path: PathBuf::new(), stream, received: Vec::new() };
            let released = Message::Released(Vec::new());
            if was_sent {
                other.write_all(&released.encode()).unwrap();
            }
            match way.receive_last() {
                Ok(message) => assert!(was_sent && message == released),
                Err(silence) => assert!(!was_sent && matches!(silence, Silence::TooSlow)),
            }
            let sent = baiwan_driver::send_fds(other.as_fd(), &released.encode(), &[]);
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn the_other_process_hears_of_the_end_wherever_copies_of_the_connection_are_left() {
        let (stream, mut other) = UnixStream::pair().unwrap();
        let _of_a_core = stream.try_clone().unwrap();
        drop(Way { path: PathBuf::new(), stream, received: Vec::new() });
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn whose_the_file_is_says_nothing_of_who_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let door = UnixListener::bind(&path).unwrap();
        // Only root may give a file away.
        let _ = std::os::unix::fs::lchown(&path, Some(effective_user() + 1), None);
        let other = std::thread::spawn(move || drop(door.accept().unwrap()));
        let said = Heir::ask(Some(&path)).unwrap_err().to_string();
        assert!(said.contains("ended, or closed"), "{said}");
        other.join().unwrap();
    }

    #[test]
    fn what_the_other_process_says_instead_is_an_error_in_words() {
        for (answer, expected) in [
            (&b""[..], "ended, or closed"),
            (b"baiwan-takeover 1 refused\nit is so\n\n", "it is so"),
            (b"baiwan-takeover 9 refused\nit is so\n\n", "version 9"),
            (b"HTTP/1.1 400 Bad Request\n\n", "something else"),
            (b"baiwan-takeover 1 released\n\n", "at the wrong time"),
            (b"baiwan-takeover 1 sockets\npid 1\ntotal 1\nserver\n\n", "0 of 1 sockets"),
            (b"baiwan-takeover 1 sockets\npid 1\ntotal 2\nserver\n\n", "ended, or closed"),
            (b"baiwan-takeover 1 sockets\npid 1\ntotal 0\n\n", "no socket for the next"),
        ] {
            let said = asks(answer);
            assert!(said.contains(expected), "{said}");
            assert!(said.contains("/door"), "it names the setting: {said}");
        }
    }
}
