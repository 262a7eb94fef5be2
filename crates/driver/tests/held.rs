//! What the kernel holds for peers that do not read.

#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use baiwan_driver::epoll::{EpollDriver, Socket};
use baiwan_driver::{AcceptEnd, Address, BoundListener, Driver, ListenOptions, Token, Transmit};

/// What the kernel may hold: `bench/readers` counts the memory that this takes.
const HELD_BYTES_MAX: u64 = 32 << 10;
/// The same for pieces so small that they share segments.
const SHARED_BYTES_MAX: u64 = 64 << 10;
/// Far more than that, and less than it would hold by itself.
const ENOUGH_BYTES: usize = 2 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(driver: &mut EpollDriver) -> (Socket, TcpStream) {
    let bound = BoundListener::bind(&"127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
    let Address::Tcp(address) = bound.address().clone() else { unreachable!("it listens on TCP") };
    let listener = driver.add_listener(bound, Token(0)).unwrap();
    let peer = TcpStream::connect(address).unwrap();
    let mut accepted = Vec::new();
    assert!(matches!(driver.accept(&listener, 1, &mut accepted), AcceptEnd::Max));
    let socket = accepted.pop().unwrap().socket;
    driver.watch(&socket, Token(1)).unwrap();
    (socket, peer)
}

/// Sends pieces until the kernel takes no more; returns how many bytes it took.
fn fill(driver: &mut EpollDriver, socket: &Socket, piece: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        let mut sent = Vec::new();
        let entry = Transmit { socket, token: Token(1), front: piece, queue: [&[], &[]], cautious: true };
        driver.transmit(std::iter::once(entry), &mut sent);
        match sent.pop().unwrap() {
            Ok(count) => taken += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return taken;
            }
        }
        assert!(taken < 64 * ENOUGH_BYTES, "the kernel takes everything");
    }
}

/// What the kernel holds for the peer.
fn held(socket: &Socket) -> u64 {
    baiwan_driver::held_bytes(EpollDriver::descriptor(socket).unwrap())
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it does not come to pass");
}

#[tokio::test]
async fn row_38a_the_kernel_holds_little_for_a_peer_that_does_not_read() {
    for (piece, held_max) in [(150, SHARED_BYTES_MAX), (7_000, HELD_BYTES_MAX), (ENOUGH_BYTES, HELD_BYTES_MAX)] {
        let mut driver = EpollDriver::new().unwrap();
        let (socket, mut peer) = connect(&mut driver);
        let mut taken = fill(&mut driver, &socket, &vec![b'x'; piece]);
        assert!(taken < ENOUGH_BYTES, "{taken} bytes were taken in pieces of {piece}");
        // What has arrived is acknowledged a moment later.
        until(|| held(&socket) <= held_max).await;
        let (before, excess) = (held(&socket), EpollDriver::excess_bytes(&socket));
        assert!(excess <= before.cast_signed(), "{excess} of {before}");
        // A peer that reads has it all, and then nothing is held.
        taken -= peer.read(&mut vec![0; 1 << 20]).unwrap();
        assert!(held(&socket) <= before);
        until(|| EpollDriver::excess_bytes(&socket) < excess).await;
        while taken > 0 {
            taken -= peer.read(&mut vec![0; 1 << 20]).unwrap();
        }
        until(|| held(&socket) == 0 && EpollDriver::excess_bytes(&socket) < 0).await;
    }
}

#[tokio::test]
async fn of_a_peer_that_has_read_the_kernel_holds_more() {
    let mut driver = EpollDriver::new().unwrap();
    let (socket, _peer) = connect(&mut driver);
    let little = fill(&mut driver, &socket, &[b'x'; 150]);
    EpollDriver::hold_more(&socket);
    assert!(fill(&mut driver, &socket, &[b'x'; 150]) > 0, "more than {little} bytes");
}
