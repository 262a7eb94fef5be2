//! Threads with fd tables of their own.

#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};

use baiwan_driver::{Address, BoundListener, Handover, ListenOptions, unshare_fd_table};

fn listener() -> (BoundListener, std::net::SocketAddr) {
    let bound = BoundListener::bind(&"127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
    let Address::Tcp(address) = bound.address().clone() else { unreachable!("it listens on TCP") };
    (bound, address)
}

/// A thread that parts from the shared table takes copies of what another test has open: so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the calling thread's table has under a number.
fn meaning(fd: impl AsFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_fd().as_raw_fd())).ok()
}

#[test]
fn a_thread_with_a_table_of_its_own_opens_files_that_no_other_thread_has() {
    let _alone = alone();
    let before = File::open("/dev/null").unwrap();
    std::thread::scope(|scope| {
        let parted = scope.spawn(|| {
            unshare_fd_table().unwrap();
            // What was open before is open here too.
            assert_eq!(meaning(&before), Some("/dev/null".into()));
            let held: Vec<File> = (0..100).map(|_| File::open("/dev/zero").unwrap()).collect();
            (held.iter().filter(|file| meaning(file) == Some("/dev/zero".into())).count(), held)
        });
        let (there, held) = parted.join().unwrap();
        let here = held.iter().filter(|file| meaning(file) == Some("/dev/zero".into())).count();
        assert_eq!((there, here), (100, 0));
        // Dropping them here would close what this thread, or another test's, has under their numbers.
        std::mem::forget(held);
    });
}

#[test]
fn listeners_on_their_way_are_in_no_table_and_close_when_whoever_takes_them_closes_them() {
    let _alone = alone();
    let handover = Handover::new().unwrap();
    let ((first, one), (second, two)) = (listener(), listener());
    handover.put(&mut vec![first]).unwrap();
    handover.put(&mut vec![second]).unwrap();
    // It waits in a backlog that nobody holds.
    let early = TcpStream::connect(one).unwrap();
    let (parted, checked) = (Barrier::new(3), Barrier::new(3));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                unshare_fd_table().unwrap();
                parted.wait();
                let mut taken = handover.take().unwrap();
                assert_eq!(taken.len(), 1);
                let address = taken[0].address().to_string();
                assert!([one, two].map(|address| address.to_string()).contains(&address));
                drop(taken.pop());
                // The other thread's table has no copy that would keep it open.
                checked.wait();
                checked.wait();
            });
        }
        parted.wait();
        checked.wait();
        for address in [one, two] {
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        checked.wait();
    });
    drop(early);
    assert_eq!(handover.take().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_way_that_is_full_says_so_and_loses_nothing() {
    let _alone = alone();
    let handover = Handover::new().unwrap();
    let (first, address) = listener();
    let mut next = vec![first];
    let mut sets = 0;
    loop {
        let set = vec![next[0].try_clone().unwrap()];
        match handover.put(&mut next) {
            Ok(()) => (sets, next) = (sets + 1, set),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert_eq!(next.len(), 1);
    let taken: Vec<_> = (0..sets).flat_map(|_| handover.take().unwrap()).collect();
    let addresses: BTreeSet<String> = taken.iter().map(|listener| listener.address().to_string()).collect();
    assert_eq!((taken.len(), addresses), (sets, BTreeSet::from([address.to_string()])));
    assert!(handover.put(&mut next).is_ok() && next.is_empty());
}
