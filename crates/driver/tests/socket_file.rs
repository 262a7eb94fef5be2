//! Unix sockets at a path: who may connect from the first moment on, and what becomes of the file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use baiwan_driver::{Address, BoundListener, FileAccess, FileIdentity, ListenOptions, SocketFile, group_id, user_id};

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("baiwan-socket-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bind(path: &Path, file: FileAccess) -> std::io::Result<BoundListener> {
    BoundListener::bind(&Address::Unix(path.to_owned()), ListenOptions { file, ..ListenOptions::default() })
}

#[test]
fn the_file_has_the_mode_whatever_the_umask_is() {
    let folder = Folder::new("mode");
    for mode in [0o600, 0o660, 0o666, 0o622] {
        let bound = bind(&folder.socket(), FileAccess { mode: Some(mode), ..FileAccess::default() }).unwrap();
        let found = std::fs::metadata(folder.socket()).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{mode:o}");
        UnixStream::connect(folder.socket()).unwrap();
        drop(bound.socket_file());
    }
}

#[test]
fn the_file_is_given_to_a_user_and_a_group_or_the_error_says_who_may_do_that() {
    let folder = Folder::new("owner");
    let mine = std::fs::metadata(&folder.0).unwrap();
    let own = FileAccess { mode: Some(0o600), owner: Some(mine.uid()), group: Some(mine.gid()) };
    drop(bind(&folder.socket(), own).unwrap().socket_file());
    // Nobody's number on any system that tests run on.
    let stranger = 4_000_000_000;
    for access in
        [FileAccess { owner: Some(stranger), ..own }, FileAccess { group: Some(stranger), owner: None, ..own }]
    {
        match bind(&folder.socket(), access) {
            // Root may.
            Ok(bound) => {
                let found = std::fs::metadata(folder.socket()).unwrap();
                assert_eq!(found.uid(), access.owner.unwrap_or(mine.uid()));
                assert_eq!(found.gid(), access.group.unwrap_or(mine.gid()));
                assert_eq!(found.permissions().mode() & 0o7777, 0o600);
                drop(bound.socket_file());
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                assert!(error.to_string().contains("CAP_CHOWN") && error.to_string().contains("4000000000"), "{error}");
            }
        }
        assert!(!folder.socket().exists(), "nothing is left behind");
    }
}

#[test]
fn the_file_goes_with_its_guard_and_one_in_its_place_stays() {
    let folder = Folder::new("end");
    let path = folder.socket();
    let bound = bind(&path, FileAccess::default()).unwrap();
    let file = bound.socket_file().unwrap();
    assert_eq!(file.path(), path);
    drop(file);
    assert!(!path.exists());

    let file = bind(&path, FileAccess::default()).unwrap().socket_file().unwrap();
    file.keep();
    assert!(path.exists(), "somebody else listens there");

    // The dead socket is replaced, and then another server replaces this one.
    let bound = bind(&path, FileAccess::default()).unwrap();
    let file = bound.socket_file().unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(file);
    UnixStream::connect(&path).unwrap();
    drop(other);
    assert!(bound.try_clone().unwrap().socket_file().is_none(), "one guard is enough");
    let given = BoundListener::from_fd(UnixListener::bind(folder.0.join("given")).unwrap().into()).unwrap();
    assert!(given.socket_file().is_none(), "whoever has made it removes it");
}

#[test]
fn of_servers_that_start_at_once_where_a_dead_one_was_one_listens_and_keeps_its_file() {
    let folder = Folder::new("race");
    let path = folder.socket();
    let access = FileAccess { mode: Some(0o600), ..FileAccess::default() };
    for round in 0..100 {
        drop(UnixListener::bind(&path).unwrap());
        let start = Barrier::new(4);
        let bound: Vec<_> = std::thread::scope(|scope| {
            let server = || scope.spawn(|| (start.wait(), bind(&path, access)).1);
            let servers: Vec<_> = std::iter::repeat_with(server).take(4).collect();
            servers.into_iter().map(|server| server.join().unwrap()).collect()
        });
        let (live, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        let refused: Vec<_> = refused.into_iter().map(|refused| refused.unwrap_err().kind()).collect();
        assert_eq!(refused, [ErrorKind::AddrInUse; 3], "in round {round}");
        UnixStream::connect(&path).unwrap();
        drop(live.into_iter().map(|live| live.unwrap().socket_file()).collect::<Vec<_>>());
        assert!(!path.exists(), "in round {round}");
    }
}

#[test]
fn a_folder_that_somebody_has_locked_does_not_keep_a_server_from_starting() {
    let folder = Folder::new("locked");
    let lock = std::fs::File::open(&folder.0).unwrap();
    lock.lock().unwrap();
    drop(UnixListener::bind(folder.socket()).unwrap());
    let bound = bind(&folder.socket(), FileAccess::default()).unwrap();
    UnixStream::connect(folder.socket()).unwrap();
    drop(bound.socket_file());
}

#[test]
fn the_access_of_a_file_that_was_taken_over_can_change() {
    let folder = Folder::new("access");
    let bound = bind(&folder.socket(), FileAccess { mode: Some(0o600), ..FileAccess::default() }).unwrap();
    let file = SocketFile::taken_over(&folder.socket(), FileIdentity::at(&folder.socket()).unwrap());
    let found = || std::fs::metadata(folder.socket()).unwrap();
    let wanted = FileAccess { mode: Some(0o660), owner: Some(found().uid()), group: Some(found().gid()) };
    file.set_access(wanted).unwrap();
    assert_eq!(found().permissions().mode() & 0o7777, 0o660);
    file.set_access(FileAccess::default()).unwrap();
    assert_eq!(found().permissions().mode() & 0o7777, 0o660, "what is not asked for stays");
    // What another program puts in its place, while the socket is open, is that one's.
    std::fs::remove_file(folder.socket()).unwrap();
    let _other = UnixListener::bind(folder.socket()).unwrap();
    let mode = found().permissions().mode();
    assert!(!file.is_in_place());
    file.set_access(FileAccess { mode: Some(0o606), ..FileAccess::default() }).unwrap_err();
    assert_eq!(found().permissions().mode(), mode);
    drop(file);
    UnixStream::connect(folder.socket()).unwrap();
    drop(bound);
}

#[test]
fn a_probe_says_what_binding_would_and_leaves_nothing() {
    let folder = Folder::new("probe");
    let at = |name: &str| Address::Unix(folder.0.join(name));
    let probe = |name: &str| BoundListener::probe(&at(name), ListenOptions::default());
    probe("socket").unwrap();
    assert!(!folder.socket().exists());
    let live = UnixListener::bind(folder.socket()).unwrap();
    assert_eq!(probe("socket").unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(live);
    probe("socket").expect("a dead one would be replaced");
    assert!(folder.socket().exists());
    assert_eq!(probe("nowhere/socket").unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(folder.0.join("file"), "precious").unwrap();
    assert!(probe("file").unwrap_err().to_string().contains("is a file, and no socket"));
    // Whom a socket can be given to is the same for both.
    let file = FileAccess { mode: Some(0o600), owner: Some(4_000_000_000), group: None };
    let options = ListenOptions { file, ..ListenOptions::default() };
    let probed = BoundListener::probe(&at("other"), options).map_err(|error| error.to_string());
    let bound = BoundListener::bind(&at("other"), options).map(|bound| drop(bound.socket_file()));
    assert_eq!(probed, bound.map_err(|error| error.to_string()));
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn names_are_those_of_this_machine() {
    assert_eq!(user_id("root").unwrap(), Some(0));
    assert_eq!(user_id("no such user").unwrap(), None);
    assert_eq!(group_id("no such group").unwrap(), None);
}
