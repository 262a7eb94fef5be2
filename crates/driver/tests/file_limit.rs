//! A process that may open no more files. Alone in its binary, because the limit is the whole process's.

#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::fs::File;
use std::net::TcpStream;

use baiwan_driver::epoll::EpollDriver;
use baiwan_driver::{AcceptEnd, Address, BoundListener, Driver, ListenOptions, Token, raise_file_limit};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn row_46_without_files_a_connection_waits_in_the_backlog() {
    let mut driver = EpollDriver::new().unwrap();
    let bound = BoundListener::bind(&"127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
    let Address::Tcp(address) = bound.address().clone() else { unreachable!("it listens on TCP") };
    let listener = driver.add_listener(bound, Token(0)).unwrap();
    let client = TcpStream::connect(address).unwrap();
    let local = client.local_addr().unwrap();
    let mut accepted = Vec::new();

    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
    let held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(held.len() < 64);
    for _ in 0..3 {
        let end = driver.accept(&listener, 64, &mut accepted);
        let refused = rustix::io::Errno::MFILE.raw_os_error();
        assert!(matches!(&end, AcceptEnd::Exhausted(error) if error.raw_os_error() == Some(refused)), "{end:?}");
    }
    assert!(accepted.is_empty());

    let raised = raise_file_limit();
    assert_eq!(Some(raised.soft), before.maximum.or(Some(u64::MAX)));
    assert!(matches!(driver.accept(&listener, 64, &mut accepted), AcceptEnd::Drained));
    let peers: Vec<_> = accepted.iter().map(|connection| connection.peer).collect();
    assert_eq!(peers, [baiwan_driver::Peer::Ip(local)]);
}
