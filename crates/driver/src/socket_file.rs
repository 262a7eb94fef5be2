//! The file of a Unix socket: what may stand in its place, who may connect, and who removes it.
//!
//! ```text
//!   lock the folder ─▶ make room (a dead server's socket) ─▶ bind ─▶ mode, owner, group ─▶ listen ─▶ unlock ─▶ …
//!     … ─▶ remove, if it is still this one
//! ```
//!
//! The invariant: nobody can connect before mode, owner and group are what they shall be, because a socket that does not listen yet
//! refuses everybody. So the umask, which belongs to all threads of the process, need not be changed.
//!
//! A socket that does not listen yet looks like a dead server's. The lock keeps another process that starts here from removing it.

use std::fs::{File, FileType, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, FdFlags};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};

/// How often a process tries to lock a folder, and the pause between two tries: a second in all. Servers hold the lock for milliseconds at
/// the most, so that whoever still holds it then is something else.
const LOCK_TRIES_MAX: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Who may connect to the Unix sockets that are bound. What is `None` is as the system makes it: the process's user and group, and all
/// permissions that its umask leaves.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FileAccess {
    /// The permission bits, 0 to 0o777. Linux lets those connect who may write.
    pub mode: Option<u32>,
    /// The id of the user who owns the file.
    pub owner: Option<u32>,
    /// The id of the file's group.
    pub group: Option<u32>,
}

/// What tells a file from any other that is there at the same time: its device and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileIdentity(u64, u64);

impl FileIdentity {
    /// That of what stands at the path. A symbolic link there is not followed.
    ///
    /// # Errors
    /// What the system says, such as that nothing is there.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::symlink_metadata(path)?))
    }

    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }

    /// Whether this file stands at the path.
    pub fn is_at(self, path: &Path) -> bool {
        Self::at(path).is_ok_and(|found| found == self)
    }
}

/// The file of a socket that was bound by this process, which removes it when this is dropped.
///
/// Drop it while the socket is still open: the number of a file is unique only for as long as something holds the file, and by it a file
/// is recognised that another process has put in the place of this one. That one stays.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<FileIdentity>,
}

impl SocketFile {
    pub(crate) fn new(path: &Path, identity: FileIdentity) -> Self {
        // A process whose working directory is gone has no paths but those that it was given.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { path, identity: Some(identity) }
    }

    /// The file at a path of a socket that another process has bound, and that this process has taken over. What stands at the path by now
    /// may be somebody else's: `identity` is that of the socket's own file.
    pub fn taken_over(path: &Path, identity: FileIdentity) -> Self {
        Self::new(path, identity)
    }

    /// Where it was bound.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it still stands there: nobody has removed it, or put another file in its place.
    pub fn is_in_place(&self) -> bool {
        self.identity.is_some_and(|identity| identity.is_at(&self.path))
    }

    /// Makes it accessible as it shall be. What is so already is not set again, because a process that has given the file away may not do
    /// that. Whoever was let in before stays connected.
    ///
    /// # Errors
    /// A sentence that says what cannot be set, and who could; or that the file is not there any more. What stands in its place stays as it is.
    pub fn set_access(&self, access: FileAccess) -> io::Result<()> {
        let found = std::fs::symlink_metadata(&self.path)?;
        if self.identity != Some(FileIdentity::of(&found)) {
            return Err(io::Error::new(ErrorKind::NotFound, "its file was removed, and another one stands there"));
        }
        let access = FileAccess {
            mode: access.mode.filter(|mode| *mode != found.mode() & 0o7777),
            owner: access.owner.filter(|owner| *owner != found.uid()),
            group: access.group.filter(|group| *group != found.gid()),
        };
        open_to(&self.path, access)
    }

    /// Leaves the file where it is: somebody else listens on the same socket from here on.
    pub fn keep(mut self) {
        self.identity = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // Where the process may not do so any more, the next server replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds a new socket to the path, in the place of one that nobody listens on any more, and has it listen once its file is accessible
/// as it shall be.
pub(crate) fn listen(fd: &OwnedFd, path: &Path, access: FileAccess, backlog: i32) -> io::Result<FileIdentity> {
    let _locked = lock_folder(path);
    bind(fd, path)?;
    let identity = claim(path, access)?;
    net::listen(fd, backlog)?;
    check(path, identity)?;
    Ok(identity)
}

/// Makes the file that was just bound accessible as it shall be. It is removed if that fails.
fn claim(path: &Path, access: FileAccess) -> io::Result<FileIdentity> {
    let identity = FileIdentity::at(path)?;
    let file = SocketFile::new(path, identity);
    open_to(path, access)?;
    file.keep();
    Ok(identity)
}

/// Fails if the file that was claimed is another one by now: a process that had no lock looked before the socket listened, and took it for
/// a dead server's.
fn check(path: &Path, claimed: FileIdentity) -> io::Result<()> {
    if claimed.is_at(path) { Ok(()) } else { Err(Errno::ADDRINUSE.into()) }
}

fn open_to(path: &Path, access: FileAccess) -> io::Result<()> {
    let FileAccess { mode, owner, group } = access;
    let failed = |what: String, error: Errno| io::Error::new(io::Error::from(error).kind(), what);
    // First, because whoever has given the file away may not change its mode.
    if let Some(mode) = mode {
        set_mode(path, Mode::from_raw_mode(mode as _))
            .map_err(|error| failed(format!("its mode cannot be set to {mode:04o}: {error}"), error))?;
    }
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    let (user, of) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    set_owner(path, user, of).map_err(|error| {
        let ids = [("user", owner), ("group", group)];
        let ids: Vec<_> = ids.iter().filter_map(|(kind, id)| Some(format!("{kind} {}", (*id)?))).collect();
        let advice = match error {
            Errno::PERM if owner.is_some() => {
                "; only root, or a process with CAP_CHOWN, may give it to another user, unless a filter of system calls forbids it \
                 (systemd: SystemCallFilter=@chown allows it)"
            }
            Errno::PERM => {
                "; this user is not in that group, and only root, or a process with CAP_CHOWN, may choose any; or a filter of system \
                 calls forbids it (systemd: SystemCallFilter=@chown allows it)"
            }
            _ => "",
        };
        failed(format!("it cannot be given to {}: {error}{advice}", ids.join(" and ")), error)
    })
}

#[cfg(target_os = "linux")]
use by_descriptor::{look, set_mode, set_owner};
#[cfg(not(target_os = "linux"))]
use by_path::{look, set_mode, set_owner};

/// What is set is set for a socket, and not for a file that a link in its place leads to.
#[cfg(target_os = "linux")]
mod by_descriptor {
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::path::Path;

    use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
    use rustix::io::{Errno, Result};

    pub(super) fn set_mode(path: &Path, mode: Mode) -> Result<()> {
        let file = open_socket(path)?;
        // What was opened with O_PATH has no mode to set but by this name (open(2)).
        rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
    }

    pub(super) fn set_owner(path: &Path, owner: Option<Uid>, group: Option<Gid>) -> Result<()> {
        rustix::fs::chownat(open_socket(path)?, c"", owner, group, AtFlags::EMPTY_PATH)
    }

    /// What stands at the path, and a descriptor that holds it: while that is open, no other file gets its number.
    pub(super) fn look(path: &Path) -> io::Result<(Metadata, Option<File>)> {
        let file = File::from(open(path)?);
        Ok((file.metadata()?, Some(file)))
    }

    fn open(path: &Path) -> Result<OwnedFd> {
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn open_socket(path: &Path) -> Result<OwnedFd> {
        let file = open(path)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_socket() {
            true => Ok(file),
            false => Err(Errno::NOTSOCK),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod by_path {
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
    use rustix::io::Result;

    pub(super) fn set_mode(path: &Path, mode: Mode) -> Result<()> {
        rustix::fs::chmod(path, mode)
    }

    pub(super) fn set_owner(path: &Path, owner: Option<Uid>, group: Option<Gid>) -> Result<()> {
        rustix::fs::chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What stands at the path. Nothing can hold it: a socket cannot be opened here.
    pub(super) fn look(path: &Path) -> io::Result<(Metadata, Option<File>)> {
        Ok((std::fs::symlink_metadata(path)?, None))
    }
}

/// Keeps other servers from binding in the same folder until the result is dropped. `None` where that is impossible: this user may not
/// list the folder, the file system has no such locks, or somebody has held the lock for a second.
fn lock_folder(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder_of(path), flags, Mode::empty()).ok()?;
    for _ in 0..LOCK_TRIES_MAX {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return None,
        }
        #[expect(clippy::disallowed_methods, reason = "to wait for the lock could take for ever, whoever holds it")]
        std::thread::sleep(LOCK_PAUSE);
    }
    None
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Binds a new socket to the path, in the place of one that nobody listens on any more.
fn bind(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    let name = SocketAddrUnix::new(path)?;
    match net::bind(fd, &name) {
        Err(Errno::ADDRINUSE) => {
            if let Some(dead) = dead_at(path, &name)? {
                dead.make_room(path)?;
            }
            Ok(net::bind(fd, &name)?)
        }
        outcome => Ok(outcome?),
    }
}

/// Whether a socket could be bound to the path now, and made accessible so. Another one in the same folder, which is there for a moment,
/// shows whom it can be given to.
///
/// # Errors
/// As where it is bound.
pub(crate) fn probe(path: &Path, access: FileAccess) -> io::Result<()> {
    dead_at(path, &SocketAddrUnix::new(path)?)?;
    let folder = folder_of(path);
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    let other = folder.join(format!(".baiwan-{}", std::process::id()));
    // Its name may be too long where that of the socket is not.
    if access == FileAccess::default() || SocketAddrUnix::new(&other).is_err() {
        return Ok(());
    }
    let fd = stream_socket(AddressFamily::UNIX)?;
    bind(&fd, &other)?;
    claim(&other, access).map(|identity| drop(SocketFile::new(&other, identity)))
}

/// The file of a socket that nobody listens on any more.
#[derive(Debug)]
struct Dead {
    identity: FileIdentity,
    /// While this is open, a file that another process puts in its place has another number. `None` where the system cannot do that.
    _held: Option<File>,
}

impl Dead {
    /// Removes it, unless another process has done so since: then that process's live socket may stand there.
    fn make_room(self, path: &Path) -> io::Result<()> {
        if self.identity.is_at(path) { std::fs::remove_file(path) } else { Ok(()) }
    }
}

/// The file of a socket that stands there and that nobody listens on any more. Whatever else stands there is an error: it is somebody's
/// data, or somebody's server.
fn dead_at(path: &Path, name: &SocketAddrUnix) -> io::Result<Option<Dead>> {
    // Before the socket is asked: the file may be replaced meanwhile, and only the one that was seen here may be removed.
    let (metadata, held) = match look(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = metadata.file_type();
    if !kind.is_socket() {
        let (path, what) = (path.display(), name_of(kind));
        let said = format!("{path} is {what}, and no socket: choose another path, or move it away");
        return Err(io::Error::new(ErrorKind::AlreadyExists, said));
    }
    // One whose backlog is full must not be waited for.
    let asking = stream_socket(AddressFamily::UNIX)?;
    rustix::io::ioctl_fionbio(&asking, true)?;
    match net::connect(&asking, name) {
        Err(Errno::CONNREFUSED) => Ok(Some(Dead { identity: FileIdentity::of(&metadata), _held: held })),
        // It has just gone.
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::ACCESS) => {
            let said = format!(
                "{} is a socket that this user may not connect to, so nobody can say whether a server listens there: choose \
                 another path, or remove it if none does",
                path.display()
            );
            Err(io::Error::new(ErrorKind::PermissionDenied, said))
        }
        _ => Err(Errno::ADDRINUSE.into()),
    }
}

/// A stream socket that is closed where the process becomes another program.
pub(crate) fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let fd = net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_file() => "a file",
        _ if kind.is_dir() => "a directory",
        _ if kind.is_symlink() => "a symbolic link",
        _ if kind.is_fifo() => "a named pipe",
        _ => "a device",
    }
}

// Elsewhere nothing keeps the number of a removed file from the next one.
#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_dead_socket_is_removed_and_the_live_one_that_has_taken_its_place_is_not() {
        let folder = std::env::temp_dir().join(format!("baiwan-dead-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        let name = SocketAddrUnix::new(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        dead_at(&path, &name).unwrap().unwrap().make_room(&path).unwrap();
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        let dead = dead_at(&path, &name).unwrap().unwrap();
        // Another server, which has seen the same, is quicker.
        std::fs::remove_file(&path).unwrap();
        assert!(dead_at(&path, &name).unwrap().is_none());
        let _live = UnixListener::bind(&path).unwrap();
        dead.make_room(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(dead_at(&path, &name).unwrap_err().kind(), ErrorKind::AddrInUse);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
