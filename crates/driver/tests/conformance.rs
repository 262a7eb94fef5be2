//! One suite for every backend: what an engine may rely on.
//!
//! A driver talks to itself: it connects to its own listener, so each case has both ends in hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use baiwan_driver::sim::SimNet;
use baiwan_driver::{AcceptEnd, Accepted, Address, Close, Driver, Event, Events, Peer, Token, Transmit};
use bytes::Bytes;

const LISTENER: Token = Token(1000);
const CLIENT: Token = Token(1);
const SERVER: Token = Token(2);
/// Only a test that already failed waits this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A driver, a listener in it, and everything reported so far that no test has asked about.
struct Rig<D: Driver> {
    driver: D,
    listener: D::Listener,
    address: Address,
    events: Events,
    seen: HashMap<Token, Event>,
}

struct Pair<D: Driver> {
    client: D::Socket,
    server: D::Socket,
}

impl<D: Driver> Rig<D> {
    fn new(mut driver: D, bound: D::Bound, address: Address) -> Self {
        let listener = driver.add_listener(bound, LISTENER).unwrap();
        Self { driver, listener, address, events: Events::with_capacity(16), seen: HashMap::new() }
    }

    /// Waits once and remembers what was reported.
    async fn wait(&mut self) {
        let waited = poll_fn(|cx| self.driver.poll_wait(cx, &mut self.events));
        tokio::time::timeout(PATIENCE, waited).await.expect("an event was due").unwrap();
        for event in self.events.iter() {
            let seen = self.seen.entry(event.token).or_insert(Event {
                token: event.token,
                readable: false,
                writable: false,
                hangup: false,
                reset: false,
            });
            seen.readable |= event.readable;
            seen.writable |= event.writable;
            seen.hangup |= event.hangup;
            seen.reset |= event.reset;
        }
    }

    /// Waits until `wanted` says that what was reported about `token` is enough; forgets it and returns it.
    async fn wait_for(&mut self, token: Token, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let Some(event) = self.seen.get(&token).copied().filter(&wanted) {
                self.seen.remove(&token);
                return event;
            }
            self.wait().await;
        }
    }

    /// Takes in what is already there, then says whether anything was reported about `token`.
    async fn is_quiet(&mut self, token: Token) -> bool {
        for _ in 0..8 {
            let waited = poll_fn(|cx| self.driver.poll_wait(cx, &mut self.events));
            let _ = tokio::time::timeout(Duration::from_millis(5), waited).await;
            self.seen.extend(self.events.iter().map(|event| (event.token, event)));
        }
        !self.seen.contains_key(&token)
    }

    async fn accept(&mut self) -> Accepted<D::Socket> {
        self.wait_for(LISTENER, |event| event.readable).await;
        let mut accepted = Vec::new();
        self.driver.accept(&self.listener, 1, &mut accepted);
        accepted.pop().expect("a readable listener has a connection")
    }

    async fn pair(&mut self) -> Pair<D> {
        let address = self.address.clone();
        let client = self.driver.connect(&address, None, CLIENT).unwrap();
        let accepted = self.accept().await;
        self.driver.watch(&accepted.socket, SERVER).unwrap();
        self.wait_for(CLIENT, |event| event.writable).await;
        Pair { client, server: accepted.socket }
    }

    fn send(&mut self, socket: &D::Socket, token: Token, front: &[u8], queue: &[&'static [u8]]) -> io::Result<usize> {
        self.send_as(socket, token, front, queue, false)
    }

    fn send_as(
        &mut self,
        socket: &D::Socket,
        token: Token,
        front: &[u8],
        queue: &[&'static [u8]],
        cautious: bool,
    ) -> io::Result<usize> {
        let queue: VecDeque<Bytes> = queue.iter().map(|chunk| Bytes::from_static(chunk)).collect();
        let mut sent = Vec::new();
        self.driver.transmit(
            [Transmit { socket, token, front, queue: queue.as_slices().into(), cautious }].into_iter(),
            &mut sent,
        );
        assert_eq!(sent.len(), 1, "one result for one entry");
        sent.pop().unwrap()
    }

    fn receive(&mut self, socket: &D::Socket) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let taken = self.driver.receive_into(socket, &mut buffer)?;
        buffer.truncate(taken);
        Ok(buffer)
    }

    /// Receives until `count` bytes are there.
    async fn receive_exactly(&mut self, socket: &D::Socket, token: Token, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.receive(socket) {
                Ok(bytes) => {
                    assert!(!bytes.is_empty(), "the stream ended early");
                    all.extend(bytes);
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    self.wait_for(token, |event| event.readable).await;
                }
            }
        }
        all
    }
}

fn blocked<T: std::fmt::Debug>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

async fn a_connection_is_accepted_with_its_peer<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let _client = rig.driver.connect(&address, None, CLIENT).unwrap();
    let accepted = rig.accept().await;
    let Peer::Ip(peer) = accepted.peer else { panic!("a TCP peer has an address") };
    assert!(peer.ip().is_loopback());
    assert_ne!(peer.port(), 0);
    let mut none = Vec::new();
    assert!(matches!(rig.driver.accept(&rig.listener, 1, &mut none), AcceptEnd::Drained));
    assert!(none.is_empty());
}

async fn accept_stops_at_its_maximum_and_can_be_asked_again_at_once<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let clients: Vec<_> = (0..5).map(|i| rig.driver.connect(&address, None, Token(i)).unwrap()).collect();
    let mut accepted = Vec::new();
    while accepted.len() < clients.len() {
        rig.wait_for(LISTENER, |event| event.readable).await;
        loop {
            let before = accepted.len();
            let end = rig.driver.accept(&rig.listener, 2, &mut accepted);
            let taken = accepted.len() - before;
            assert!(taken <= 2);
            if matches!(end, AcceptEnd::Drained) {
                break;
            }
            assert_eq!(taken, 2, "ends early only when nothing waits");
        }
    }
}

async fn a_listener_can_pause_and_its_backlog_waits<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    // Said twice, it means the same.
    for _ in 0..2 {
        rig.driver.set_listening(&rig.listener, LISTENER, false).unwrap();
    }
    let _client = rig.driver.connect(&address, None, CLIENT).unwrap();
    assert!(rig.is_quiet(LISTENER).await);
    for _ in 0..2 {
        rig.driver.set_listening(&rig.listener, LISTENER, true).unwrap();
    }
    rig.accept().await;
}

async fn bytes_arrive_in_order_from_front_and_queue<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    assert_eq!(rig.send(&pair.client, CLIENT, b"one ", &[b"two ", b"", b"three"]).unwrap(), 13);
    let event = rig.wait_for(SERVER, |event| event.readable).await;
    assert!(!event.hangup && !event.reset);
    assert_eq!(rig.receive_exactly(&pair.server, SERVER, 13).await, b"one two three");
    assert!(blocked(rig.receive(&pair.server)));
}

async fn bytes_arrive_in_order_in_pieces<D: Driver>(mut rig: Rig<D>) {
    // A number never comes again in a piece, and the parts end where no piece does.
    let bytes: &'static [u8] = (0..90_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>().leak();
    let pair = rig.pair().await;
    // Less than a piece, one piece exactly, a few, and more than one call takes.
    for (start, end) in [(0, 100), (100, 16_484), (16_484, 60_000), (60_000, 360_000)] {
        let (front, rest) = bytes[start..end].split_at(30);
        let chunks: Vec<_> = rest.chunks(7_001).collect();
        let mut sent = 0;
        let mut received = Vec::new();
        while sent < end - start {
            let skipped = sent.min(front.len());
            let left: Vec<_> = match sent - skipped {
                0 => chunks.clone(),
                past => rest[past..].chunks(7_001).collect(),
            };
            match rig.send_as(&pair.server, SERVER, &front[skipped..], &left, true) {
                Ok(taken) => sent += taken,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            let more = sent - received.len();
            received.extend(rig.receive_exactly(&pair.client, CLIENT, more).await);
        }
        assert!(received == bytes[start..end], "{start} to {end}");
    }
}

async fn an_idle_socket_reports_nothing<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    assert!(rig.is_quiet(SERVER).await);
    rig.send(&pair.client, CLIENT, b"x", &[]).unwrap();
    rig.wait_for(SERVER, |event| event.readable).await;
    assert_eq!(rig.receive(&pair.server).unwrap(), b"x");
    assert!(rig.is_quiet(SERVER).await);
}

async fn what_came_before_the_watch_is_reported<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let client = rig.driver.connect(&address, None, CLIENT).unwrap();
    let accepted = rig.accept().await;
    rig.wait_for(CLIENT, |event| event.writable).await;
    rig.send(&client, CLIENT, b"early", &[]).unwrap();
    rig.driver.watch(&accepted.socket, SERVER).unwrap();
    rig.wait_for(SERVER, |event| event.readable).await;
    assert_eq!(rig.receive(&accepted.socket).unwrap(), b"early");
}

async fn a_listener_is_reported_until_its_backlog_is_empty<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let clients: Vec<_> = (0..5).map(|i| rig.driver.connect(&address, None, Token(i)).unwrap()).collect();
    for i in 0..5 {
        // Whoever is connected waits in the backlog.
        rig.wait_for(Token(i), |event| event.writable).await;
    }
    for _ in 0..clients.len() {
        rig.accept().await;
        // What was reported before the accept says nothing of those that are left.
        rig.seen.remove(&LISTENER);
    }
    rig.is_quiet(LISTENER).await;
    assert!(matches!(rig.driver.accept(&rig.listener, 1, &mut Vec::new()), AcceptEnd::Drained));
}

async fn what_comes_between_the_first_receive_and_the_watch_is_reported<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let client = rig.driver.connect(&address, None, CLIENT).unwrap();
    let server = rig.accept().await.socket;
    rig.wait_for(CLIENT, |event| event.writable).await;
    rig.send(&client, CLIENT, b"first", &[]).unwrap();
    assert_eq!(rig.receive(&server).unwrap(), b"first");
    assert!(blocked(rig.receive(&server)));
    rig.send(&client, CLIENT, b"second", &[]).unwrap();
    rig.driver.shutdown_write(&client);
    assert!(rig.is_quiet(SERVER).await, "it is not watched yet");
    rig.driver.watch(&server, SERVER).unwrap();
    rig.wait_for(SERVER, |event| event.readable && event.hangup).await;
    assert_eq!(rig.receive(&server).unwrap(), b"second");
    assert_eq!(rig.receive(&server).unwrap(), b"");
}

async fn a_peer_that_is_full_before_the_watch_says_when_there_is_room<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let client = rig.driver.connect(&address, None, CLIENT).unwrap();
    let server = rig.accept().await.socket;
    rig.wait_for(CLIENT, |event| event.writable).await;
    let chunk = vec![7_u8; 1 << 16];
    let mut offered = 0;
    while let Ok(taken) = rig.send(&server, SERVER, &chunk, &[]) {
        offered += taken;
    }
    rig.driver.watch(&server, SERVER).expect("it is watched already, which is what was asked for");
    rig.is_quiet(SERVER).await;
    rig.seen.remove(&SERVER);
    rig.receive_exactly(&client, CLIENT, offered).await;
    rig.wait_for(SERVER, |event| event.writable).await;
    rig.send(&client, CLIENT, b"x", &[]).unwrap();
    rig.wait_for(SERVER, |event| event.readable).await;
}

async fn data_and_end_of_stream_in_one_event_are_both_there<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    rig.send(&pair.client, CLIENT, b"last words", &[]).unwrap();
    rig.driver.shutdown_write(&pair.client);
    let event = rig.wait_for(SERVER, |event| event.readable && event.hangup).await;
    assert!(!event.reset);
    assert_eq!(rig.receive(&pair.server).unwrap(), b"last words");
    assert_eq!(rig.receive(&pair.server).unwrap(), b"");
    assert_eq!(rig.receive(&pair.server).unwrap(), b"", "the end stays the end");
    // The other direction goes on.
    assert_eq!(rig.send(&pair.server, SERVER, b"answer", &[]).unwrap(), 6);
    assert_eq!(rig.receive_exactly(&pair.client, CLIENT, 6).await, b"answer");
}

async fn a_full_peer_refuses_and_says_when_there_is_room<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    let chunk = vec![7_u8; 1 << 16];
    let mut offered = 0;
    loop {
        match rig.send(&pair.server, SERVER, &chunk, &[]) {
            Ok(taken) => offered += taken,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    rig.receive_exactly(&pair.client, CLIENT, offered).await;
    rig.wait_for(SERVER, |event| event.writable).await;
    assert!(rig.send(&pair.server, SERVER, &chunk, &[]).unwrap() > 0);
}

async fn a_reset_is_reported_and_shows_in_the_next_call<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    rig.driver.close(pair.client, Close::Reset);
    let event = rig.wait_for(SERVER, |event| event.reset).await;
    assert!(event.readable);
    let error = rig.receive(&pair.server).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(rig.send(&pair.server, SERVER, b"x", &[]).is_err());
}

async fn an_orderly_close_is_an_end_of_stream<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    rig.send(&pair.client, CLIENT, b"bye", &[]).unwrap();
    rig.driver.close(pair.client, Close::Orderly);
    rig.wait_for(SERVER, |event| event.hangup).await;
    assert_eq!(rig.receive_exactly(&pair.server, SERVER, 3).await, b"bye");
    assert_eq!(rig.receive(&pair.server).unwrap(), b"");
}

async fn a_closed_socket_is_not_reported_any_more<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    rig.driver.close(pair.server, Close::Orderly);
    rig.wait_for(CLIENT, |event| event.hangup).await;
    assert!(rig.is_quiet(SERVER).await);
    // The place of the closed socket is used again at once, under another token.
    let address = rig.address.clone();
    let client = rig.driver.connect(&address, None, Token(3)).unwrap();
    let accepted = rig.accept().await;
    rig.driver.watch(&accepted.socket, Token(4)).unwrap();
    rig.wait_for(Token(3), |event| event.writable).await;
    rig.send(&client, Token(3), b"new", &[]).unwrap();
    rig.wait_for(Token(4), |event| event.readable).await;
    assert!(!rig.seen.contains_key(&SERVER));
}

async fn a_batch_packs_its_area_and_ends_when_it_is_full<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let mut pairs = Vec::new();
    for index in 0..3 {
        let (here, there) = (Token(10 + index), Token(20 + index));
        let client = rig.driver.connect(&address, None, here).unwrap();
        let server = rig.accept().await.socket;
        rig.driver.watch(&server, there).unwrap();
        rig.wait_for(here, |event| event.writable).await;
        pairs.push((client, server, here, there));
    }
    for (client, _, here, _) in &pairs[..2] {
        rig.send(client, *here, b"12345", &[]).unwrap();
    }
    for (_, _, _, there) in &pairs[..2] {
        rig.wait_for(*there, |event| event.readable).await;
    }
    let mut area = [0; 64];
    let mut received = Vec::new();
    rig.driver.receive(pairs.iter().map(|pair| &pair.1), 10, &mut area, &mut received);
    assert_eq!(received.len(), 3);
    assert_eq!(*received[0].outcome.as_ref().unwrap(), 5);
    assert_eq!(received[1].start, 5, "one behind the other");
    assert_eq!(&area[..10], b"1234512345");
    assert!(blocked(received.pop().unwrap().outcome));
    received.clear();
    rig.send(&pairs[0].0, pairs[0].2, b"1234567890", &[]).unwrap();
    rig.wait_for(pairs[0].3, |event| event.readable).await;
    rig.driver.receive(pairs.iter().map(|pair| &pair.1), 10, &mut area[..15], &mut received);
    assert_eq!(received.len(), 1, "less than the maximum is left for the second");
}

async fn more_events_than_fit_come_with_the_next_wait<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let mut pairs = Vec::new();
    for index in 0..20 {
        let client = rig.driver.connect(&address, None, Token(100 + index)).unwrap();
        let server = rig.accept().await.socket;
        rig.driver.watch(&server, Token(200 + index)).unwrap();
        rig.wait_for(Token(100 + index), |event| event.writable).await;
        pairs.push((client, server));
    }
    for (index, (client, _)) in pairs.iter().enumerate() {
        rig.send(client, Token(100 + index as u64), b"x", &[]).unwrap();
    }
    for index in 0..20 {
        rig.wait_for(Token(200 + index), |event| event.readable).await;
        assert!(rig.events.len() <= rig.events.capacity());
    }
}

async fn a_later_event_wakes_the_waiting_task<D: Driver>(mut rig: Rig<D>, sender: impl AsyncFnOnce(Address)) {
    assert!(rig.is_quiet(LISTENER).await);
    let address = rig.address.clone();
    let ((), ()) = tokio::join!(sender(address), async {
        rig.wait_for(LISTENER, |event| event.readable).await;
    });
}

async fn a_direct_wait_ends_with_an_event_or_with_its_time<D: Driver>(mut rig: Rig<D>) {
    let pair = rig.pair().await;
    assert!(!rig.driver.wait_directly(&mut rig.events).unwrap(), "no time has begun");
    if !rig.driver.begin_direct(PATIENCE) {
        return;
    }
    rig.send(&pair.client, CLIENT, b"x", &[]).unwrap();
    while !rig.events.iter().any(|event| event.token == SERVER && event.readable) {
        assert!(rig.driver.wait_directly(&mut rig.events).unwrap(), "its time goes on");
    }
    assert_eq!(rig.receive(&pair.server).unwrap(), b"x");
    assert!(rig.driver.begin_direct(Duration::from_millis(1)), "a shorter time");
    while rig.driver.wait_directly(&mut rig.events).unwrap() {
        assert!(rig.events.is_empty());
    }
    assert!(!rig.driver.wait_directly(&mut rig.events).unwrap(), "it is over");
    // Tokio hears of what comes next, and of nothing else.
    assert!(rig.is_quiet(SERVER).await);
    rig.send(&pair.client, CLIENT, b"y", &[]).unwrap();
    rig.wait_for(SERVER, |event| event.readable).await;
    // An end that nobody waits for is no event.
    assert!(rig.driver.begin_direct(Duration::ZERO));
    rig.seen.clear();
    for _ in 0..3 {
        assert!(rig.is_quiet(SERVER).await);
    }
    assert!(rig.seen.is_empty());
    assert!(!rig.driver.wait_directly(&mut rig.events).unwrap());
}

async fn what_a_direct_wait_leaves_is_reported_to_tokio<D: Driver>(mut rig: Rig<D>) {
    let address = rig.address.clone();
    let mut pairs = Vec::new();
    for index in 0..20 {
        let client = rig.driver.connect(&address, None, Token(100 + index)).unwrap();
        let server = rig.accept().await.socket;
        rig.driver.watch(&server, Token(200 + index)).unwrap();
        rig.wait_for(Token(100 + index), |event| event.writable).await;
        pairs.push((client, server));
    }
    rig.is_quiet(SERVER).await;
    rig.seen.clear();
    for (index, (client, _)) in pairs.iter().enumerate() {
        rig.send(client, Token(100 + index as u64), b"x", &[]).unwrap();
    }
    if rig.driver.begin_direct(PATIENCE) {
        rig.driver.wait_directly(&mut rig.events).unwrap();
        assert_eq!(rig.events.len(), rig.events.capacity());
        rig.seen.extend(rig.events.iter().map(|event| (event.token, event)));
    }
    for index in 0..20 {
        rig.wait_for(Token(200 + index), |event| event.readable).await;
    }
}

/// Each case, once for each backend.
macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod sim_backend {
            $(#[tokio::test] async fn $case() { super::$case(super::sim_rig()).await; })+
        }
        #[cfg(all(target_os = "linux", not(baiwan_portable)))]
        mod epoll_backend {
            $(#[tokio::test] async fn $case() { super::$case(super::epoll::rig()).await; })+
        }
    };
}

conformance!(
    a_connection_is_accepted_with_its_peer,
    accept_stops_at_its_maximum_and_can_be_asked_again_at_once,
    a_listener_can_pause_and_its_backlog_waits,
    bytes_arrive_in_order_from_front_and_queue,
    bytes_arrive_in_order_in_pieces,
    an_idle_socket_reports_nothing,
    what_came_before_the_watch_is_reported,
    a_listener_is_reported_until_its_backlog_is_empty,
    what_comes_between_the_first_receive_and_the_watch_is_reported,
    a_peer_that_is_full_before_the_watch_says_when_there_is_room,
    data_and_end_of_stream_in_one_event_are_both_there,
    a_full_peer_refuses_and_says_when_there_is_room,
    a_reset_is_reported_and_shows_in_the_next_call,
    an_orderly_close_is_an_end_of_stream,
    a_closed_socket_is_not_reported_any_more,
    a_batch_packs_its_area_and_ends_when_it_is_full,
    more_events_than_fit_come_with_the_next_wait,
    a_direct_wait_ends_with_an_event_or_with_its_time,
    what_a_direct_wait_leaves_is_reported_to_tokio,
);

fn sim_rig() -> Rig<baiwan_driver::sim::SimDriver> {
    let net = SimNet::default();
    let address = "127.0.0.1:80".parse().unwrap();
    Rig::new(net.driver(), net.bind(address), Address::Tcp(address))
}

#[tokio::test]
async fn sim_a_later_event_wakes_the_waiting_task() {
    let net = SimNet::default();
    let address = "127.0.0.1:80".parse().unwrap();
    let rig = Rig::new(net.driver(), net.bind(address), Address::Tcp(address));
    a_later_event_wakes_the_waiting_task(rig, async move |_| {
        tokio::task::yield_now().await;
        std::mem::forget(net.connect(address).unwrap());
    })
    .await;
}

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod epoll {
    use std::os::fd::OwnedFd;

    use baiwan_driver::epoll::EpollDriver;
    use baiwan_driver::{BoundListener, ListenOptions};

    use super::*;

    pub(crate) fn rig() -> Rig<EpollDriver> {
        let bound = BoundListener::bind(&"127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
        let address = bound.address().clone();
        Rig::new(EpollDriver::new().unwrap(), bound, address)
    }

    #[tokio::test]
    async fn a_later_event_wakes_the_waiting_task() {
        super::a_later_event_wakes_the_waiting_task(rig(), async |address| {
            let Address::Tcp(address) = address else { unreachable!("the rig listens on TCP") };
            std::mem::forget(tokio::net::TcpStream::connect(address).await.unwrap());
        })
        .await;
    }

    #[tokio::test]
    async fn a_released_socket_belongs_to_its_holder_and_is_not_reported() {
        let mut rig = rig();
        let pair = rig.pair().await;
        let fd: OwnedFd = rig.driver.release(pair.server).unwrap();
        let mut stream = std::net::TcpStream::from(fd);
        rig.send(&pair.client, CLIENT, b"hello", &[]).unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut bytes = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert!(rig.is_quiet(SERVER).await);
    }

    #[tokio::test]
    async fn a_socket_that_was_never_watched_can_be_released() {
        let mut rig = rig();
        let address = rig.address.clone();
        let _client = rig.driver.connect(&address, None, CLIENT).unwrap();
        let server = rig.accept().await.socket;
        rig.driver.release(server).unwrap();
    }

    #[tokio::test]
    async fn a_unix_socket_works_and_an_abandoned_file_is_replaced() {
        let path = std::env::temp_dir().join(format!("baiwan-driver-{}.sock", std::process::id()));
        let address = Address::Unix(path.clone());
        drop(BoundListener::bind(&address, ListenOptions::default()).unwrap());
        let bound = BoundListener::bind(&address, ListenOptions::default()).unwrap();
        assert_eq!(bound.address(), &address);
        let second = BoundListener::bind(&address, ListenOptions::default()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse, "a listener that lives is left alone");
        let mut rig = Rig::new(EpollDriver::new().unwrap(), bound, address.clone());
        let _client = rig.driver.connect(&address, None, CLIENT).unwrap();
        assert_eq!(rig.accept().await.peer, Peer::Unix);
        std::fs::remove_file(path).unwrap();
    }

    /// A folder of its own, gone at the end.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("baiwan-driver-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_no_socket_is_left_where_a_unix_socket_should_be_and_is_named() {
        let folder = Folder::new("occupied");
        let at = |name: &str| folder.0.join(name);
        std::fs::write(at("file"), "precious").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).unwrap();
        for (name, what) in
            [("file", "a file"), ("directory", "a directory"), ("link", "a symbolic link"), ("pipe", "a named pipe")]
        {
            let refused = BoundListener::bind(&Address::Unix(at(name)), ListenOptions::default()).unwrap_err();
            let expected = format!("{} is {what}, and no socket: ", at(name).display());
            assert!(refused.to_string().starts_with(&expected), "{refused}");
            assert!(std::fs::symlink_metadata(at(name)).is_ok(), "{what} was removed");
        }
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "precious");
    }

    #[tokio::test]
    async fn an_abstract_socket_works_and_no_file_appears() {
        let name = format!("baiwan-driver-{}", std::process::id());
        let address: Address = format!("unix:@{name}").parse().unwrap();
        assert_eq!(address, Address::Abstract(name.clone()));
        let bound = BoundListener::bind(&address, ListenOptions::default()).unwrap();
        assert_eq!(bound.address().to_string(), format!("unix:@{name}"));
        let second = BoundListener::bind(&address, ListenOptions::default()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        let mut rig = Rig::new(EpollDriver::new().unwrap(), bound, address.clone());
        let _client = rig.driver.connect(&address, None, CLIENT).unwrap();
        assert_eq!(rig.accept().await.peer, Peer::Unix);
        assert!(!std::path::Path::new(&format!("@{name}")).exists());
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_address_that_was_asked_for() {
        let mut rig = rig();
        let address = rig.address.clone();
        let source = "127.9.8.7".parse().unwrap();
        let _client = rig.driver.connect(&address, Some(source), CLIENT).unwrap();
        let Peer::Ip(peer) = rig.accept().await.peer else { panic!("not a peer with an address") };
        assert_eq!(peer.ip(), source);
        let elsewhere = rig.driver.connect(&address, Some("192.0.2.1".parse().unwrap()), CLIENT).unwrap_err();
        assert_eq!(elsewhere.kind(), io::ErrorKind::AddrNotAvailable, "not an address of this machine");
    }

    #[tokio::test]
    async fn an_alarm_rings_once_each_time_it_is_set_and_not_before() {
        let mut rig = rig();
        let alarm = rig.driver.add_alarm(CLIENT).unwrap();
        assert!(rig.is_quiet(CLIENT).await, "an alarm that was not set does not ring");
        for _ in 0..3 {
            let duration = Duration::from_micros(300);
            let start = tokio::time::Instant::now();
            alarm.ring_in(duration).unwrap();
            rig.wait_for(CLIENT, |event| event.readable).await;
            assert!(start.elapsed() >= duration, "it does not ring early");
            assert!(rig.is_quiet(CLIENT).await, "it rings once");
        }
        alarm.ring_in(Duration::from_secs(3600)).unwrap();
        alarm.ring_in(Duration::ZERO).unwrap();
        rig.wait_for(CLIENT, |event| event.readable).await;
    }

    #[tokio::test]
    async fn row_49_an_accepted_connection_gives_up_a_peer_that_is_gone_after_twelve_minutes() {
        use rustix::net::sockopt;

        let mut rig = rig();
        let pair = rig.pair().await;
        let fd = rig.driver.release(pair.server).unwrap();
        assert!(sockopt::socket_keepalive(&fd).unwrap());
        let idle = sockopt::tcp_keepidle(&fd).unwrap();
        let probing = sockopt::tcp_keepintvl(&fd).unwrap() * sockopt::tcp_keepcnt(&fd).unwrap();
        assert_eq!(idle + probing, Duration::from_secs(720));
        // With a user timeout the kernel ignores the number of probes: both must say the same.
        assert_eq!(u128::from(sockopt::tcp_user_timeout(&fd).unwrap()), (idle + probing).as_millis());
    }

    #[test]
    fn a_port_that_is_taken_is_noticed_although_ports_are_shared() {
        let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = BoundListener::bind(&"127.0.0.1:0".parse().unwrap(), shared).unwrap();
        let address = first.address().clone();
        BoundListener::bind(&address, shared).expect("a second socket of ours joins the port");
        let probed = BoundListener::probe(&address, ListenOptions::default()).unwrap_err();
        assert_eq!(probed.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_has_its_port_alone_until_it_shares_it() {
        let (alone, shared) =
            (ListenOptions::default(), ListenOptions { reuse_port: true, ..ListenOptions::default() });
        let first = BoundListener::bind(&"127.0.0.1:0".parse().unwrap(), alone).unwrap();
        let bind = |options| BoundListener::bind(first.address(), options).map_err(|error| error.kind());
        assert_eq!(bind(shared).unwrap_err(), io::ErrorKind::AddrInUse);
        first.share_port().unwrap();
        let _second = bind(shared).unwrap();
        assert_eq!(bind(alone).unwrap_err(), io::ErrorKind::AddrInUse);
    }
}
