//! A core that gets more requests than it can answer: each takes 5 ms of its time, on a held clock.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get as route_get, post};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::rig::{Peer, Rig, get, statuses};
use crate::settings::{Overload, Settings};

const COST: Duration = Duration::from_millis(5);
/// More than are served in the 100 ms and a little after which a core is overloaded.
const FLOOD: usize = 60;

/// Uses the core for a while.
pub(super) async fn burn(time: Duration) {
    let mut passes = pin!(tokio::time::advance(time));
    std::future::poll_fn(|cx| {
        // The time has passed when it is polled once; the rest of it would give other tasks a turn.
        let _ = passes.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// What was served: the number in the path, and when.
type Served = Arc<Mutex<Vec<(usize, Instant)>>>;

fn app(served: &Served) -> Router {
    let served = Arc::clone(served);
    let work = async move |Path(number): Path<usize>| {
        served.lock().unwrap().push((number, Instant::now()));
        burn(COST).await;
        "done"
    };
    Router::new().route("/work/{number}", route_get(work)).route(
        "/health/live",
        route_get(async || {
            burn(COST).await;
            "live"
        }),
    )
}

fn settings(overload: Overload) -> Settings {
    Settings { overload, ..Settings::default() }
}

fn numbers(served: &Served) -> Vec<usize> {
    served.lock().unwrap().iter().map(|(number, _)| *number).collect()
}

/// Connections that have all sent a request at once.
fn flood(rig: &Rig, path: impl Fn(usize) -> String) -> Vec<Peer> {
    let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(FLOOD).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(get(&path(number)));
    }
    peers
}

fn work(number: usize) -> String {
    format!("/work/{number}")
}

/// Requests that come at a steady rate.
struct Load {
    start: Instant,
    pause: Duration,
    /// When each was sent.
    sent: Vec<Instant>,
    /// The statuses of the answers.
    answers: Vec<u16>,
    idle: Vec<Peer>,
    busy: Vec<Peer>,
}

/// Lets every other task run once. One that yields instead has its turn after many of them.
async fn next_turn() {
    let mut is_first = true;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

impl Load {
    /// One every `pause`.
    fn begin(pause: Duration) -> Self {
        Self { start: Instant::now(), pause, sent: Vec::new(), answers: Vec::new(), idle: Vec::new(), busy: Vec::new() }
    }

    /// Sends what is due for a while, and receives: in a task, which has its turns as the engine has.
    async fn send_for(mut self, rig: Rig, time: Duration) -> (Rig, Self) {
        let load = async move {
            self.send(&rig, time).await;
            (rig, self)
        };
        tokio::task::spawn_local(load).await.unwrap()
    }

    async fn send(&mut self, rig: &Rig, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.send_due(rig);
            next_turn().await;
            self.receive();
        }
    }

    fn send_due(&mut self, rig: &Rig) {
        let due = self.start.elapsed().div_duration_f64(self.pause) as usize + 1;
        while self.sent.len() < due {
            let mut peer = self.idle.pop().unwrap_or_else(|| rig.connect());
            peer.send(get(&work(self.sent.len())));
            self.sent.push(Instant::now());
            self.busy.push(peer);
        }
    }

    fn receive(&mut self) {
        for mut peer in std::mem::take(&mut self.busy) {
            let answer = peer.receive();
            match answer.is_empty() {
                true => self.busy.push(peer),
                false => {
                    self.answers.extend(statuses(&answer));
                    self.idle.push(peer);
                }
            }
        }
    }

    fn refused(&self) -> usize {
        self.answers.iter().filter(|status| **status == 503).count()
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_the_setting_everything_is_served_in_its_order() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Off));
    let mut peers = flood(&rig, work);
    rig.settle().await;
    assert!(peers.iter_mut().all(|peer| statuses(&peer.receive()) == [200]));
    assert_eq!(numbers(&served), (0..FLOOD).collect::<Vec<_>>());
    assert_eq!((rig.counts().overloads, rig.counts().shed), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_burst_is_served_in_its_order() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    for _ in 0..5 {
        let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(15).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(get(&work(number)));
        }
        rig.settle().await;
        assert!(peers.iter_mut().all(|peer| statuses(&peer.receive()) == [200]));
        assert_eq!(numbers(&served), (0..15).collect::<Vec<_>>());
        served.lock().unwrap().clear();
    }
    assert_eq!((rig.counts().overloads, rig.counts().shed), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_has_waited_too_long_is_refused_and_its_connection_stays() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    let mut peers = flood(&rig, work);
    rig.settle().await;
    let mut refused = Vec::new();
    for (number, peer) in peers.iter_mut().enumerate() {
        let answer = peer.receive();
        if statuses(&answer) == [503] {
            assert!(answer.contains("temporary-reduced-capacity") && answer.contains("retry-after: "), "{answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
            refused.push(number);
        } else {
            assert_eq!(statuses(&answer), [200]);
        }
    }
    // The oldest are served for the 100 ms that it takes to be sure. Then the core has the time for one, the newest.
    assert_eq!(refused, (22..FLOOD - 1).collect::<Vec<_>>());
    assert_eq!((rig.counts().overloads, rig.counts().shed), (1, refused.len() as u64));
    assert_eq!(numbers(&served).last(), Some(&(FLOOD - 1)));

    rig.pass(Duration::from_millis(200)).await;
    for number in refused {
        peers[number].send(get(&work(number)));
        rig.settle().await;
        assert_eq!(statuses(&peers[number].receive()), [200]);
    }
    assert_eq!(rig.counts().overloads, 1);
    drop(peers);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn under_ten_times_the_load_the_core_is_never_idle_and_nobody_waits_long() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    let (rig, load) = Load::begin(COST / 10).send_for(rig, Duration::from_secs(3)).await;
    let served = served.lock().unwrap();
    assert!(served.len() >= 590, "of 600 that the core can serve, {}", served.len());
    let counts = rig.counts();
    assert_eq!(counts.overloads, 1, "it does not flap");
    let refused = load.refused();
    assert!(refused > 5000 && counts.shed >= refused as u64, "{refused}");
    let later = served.iter().filter(|(number, _)| load.sent[*number] > load.start + Duration::from_millis(200));
    for (number, at) in later {
        let waited = at.duration_since(load.sent[*number]);
        assert!(waited <= Duration::from_millis(30), "request {number} waited for {waited:?}");
    }
    assert!(load.busy.len() < 100, "{} wait for an answer", load.busy.len());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_handlers_compute_after_they_have_waited_counts_too() {
    let served = Served::default();
    let numbers = Arc::clone(&served);
    let work = async move |Path(number): Path<usize>| {
        tokio::task::yield_now().await;
        numbers.lock().unwrap().push((number, Instant::now()));
        burn(COST).await;
        MEANWHILE.with_borrow_mut(|meanwhile| meanwhile());
    };
    let rig = Rig::with_settings(Router::new().route("/work/{number}", route_get(work)), settings(Overload::Auto));
    let mut load = Load::begin(COST / 5);
    // How long a connection waits to be accepted is not seen.
    for _ in 0..18 {
        load.idle.extend(std::iter::repeat_with(|| rig.connect()).take(50));
        rig.settle().await;
    }
    let (rig, load) = (Rc::new(rig), Rc::new(RefCell::new(load)));
    let there = (Rc::clone(&rig), Rc::clone(&load));
    // Requests come while handlers compute.
    MEANWHILE.set(Box::new(move || {
        let mut load = there.1.borrow_mut();
        load.receive();
        load.send_due(&there.0);
    }));
    load.borrow_mut().send_due(&rig);
    while load.borrow().start.elapsed() < Duration::from_secs(6) {
        tokio::task::yield_now().await;
    }
    MEANWHILE.set(Box::new(|| ()));
    let (served, load) = (served.lock().unwrap(), load.borrow());
    assert!(served.len() >= 1190, "of 1200 that the core can serve, {}", served.len());
    let counts = rig.counts();
    assert!(counts.overloads >= 1 && counts.shed >= 4000, "{} {}", counts.overloads, counts.shed);
    let later = served.iter().filter(|(number, _)| load.sent[*number] > load.start + Duration::from_secs(1));
    let waited = later.map(|(number, at)| at.duration_since(load.sent[*number])).max();
    assert!(waited.is_some_and(|waited| waited <= Duration::from_millis(500)), "{waited:?}");
}

thread_local! {
    /// What happens while a handler computes.
    static MEANWHILE: RefCell<Box<dyn FnMut()>> = RefCell::new(Box::new(|| ()));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_core_whose_handlers_compute_after_they_have_waited_and_that_keeps_up_refuses_nothing() {
    let work = async || {
        tokio::task::yield_now().await;
        burn(Duration::from_millis(30)).await;
    };
    let rig = Rig::with_settings(Router::new().route("/", route_get(work)), settings(Overload::Auto));
    for _ in 0..20 {
        let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(3).collect();
        peers.iter_mut().for_each(|peer| peer.send(get("/")));
        rig.settle().await;
        assert!(peers.iter_mut().all(|peer| statuses(&peer.receive()) == [200]));
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    assert_eq!((rig.counts().overloads, rig.counts().shed), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_behind_each_other_do_not_come_before_those_that_wait() {
    const FIRST: usize = 1_000_000;
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    let (rig, load) = Load::begin(COST / 10).send_for(rig, Duration::from_millis(500)).await;
    assert_eq!(rig.counts().overloads, 1);
    let mut peer = rig.connect();
    peer.send((0..100).map(|number| get(&work(FIRST + number))).collect::<String>());
    let (_rig, _load) = load.send_for(rig, Duration::from_secs(1)).await;
    let answers = statuses(&peer.receive());
    assert_eq!(answers.len(), 100);
    // Those that are served before they have waited for 20 ms.
    let own = numbers(&served).into_iter().filter(|number| *number >= FIRST).count();
    assert!(own <= 5, "{own} of 100 were served");
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), 100 - own);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn health_is_answered_however_long_it_has_waited() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    let is_probe = |number: usize| number % 10 == 9;
    let mut peers = flood(&rig, |number| if is_probe(number) { "/health/live".to_owned() } else { work(number) });
    rig.settle().await;
    let answers: Vec<_> = peers.iter_mut().map(|peer| statuses(&peer.receive())).collect();
    assert!(answers.iter().enumerate().all(|(number, answer)| !is_probe(number) || *answer == [200]), "{answers:?}");
    assert!(rig.counts().shed > 20);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_is_one_that_its_client_understands_and_the_next_request_is_found() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    let mut peers = flood(&rig, work);
    let ask = |request: &str| {
        let mut peer = rig.connect();
        peer.send(request);
        peer
    };
    let mut events = ask("GET /work/1 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    let mut head = ask("HEAD /work/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upload = ask("POST /work/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01");
    peers.extend(flood(&rig, work));
    rig.settle().await;
    let answer = events.receive();
    assert!(statuses(&answer) == [200] && answer.contains("\r\n\r\nretry: "), "{answer}");
    let answer = head.receive();
    assert!(statuses(&answer) == [503] && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(statuses(&upload.receive()), [503]);
    rig.pass(Duration::from_millis(200)).await;
    upload.send(format!("234{}", get("/work/1")));
    for peer in [&mut events, &mut head] {
        peer.send(get("/work/1"));
    }
    rig.settle().await;
    for mut peer in [events, head, upload] {
        assert_eq!(statuses(&peer.receive()), [200]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_has_begun_goes_on() {
    let (served, go) = (Served::default(), Arc::new(Notify::new()));
    let waits = Arc::clone(&go);
    let app = app(&served)
        .route("/waits", route_get(async move || waits.notified().await))
        .route("/upload", post(async |body: String| body));
    let rig = Rig::with_settings(app, settings(Overload::Auto));
    let (mut waiter, mut upload) = (rig.connect(), rig.connect());
    waiter.send(get("/waits"));
    upload.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    rig.settle().await;
    let _peers = flood(&rig, work);
    while rig.counts().shed == 0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    upload.send("56789");
    rig.settle().await;
    assert_eq!(statuses(&waiter.receive()), [200]);
    assert!(upload.receive().ends_with("0123456789"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_behind_each_other_wait_since_they_could_be_served() {
    let served = Served::default();
    let rig = Rig::with_settings(app(&served), settings(Overload::Auto));
    let mut peer = rig.connect();
    peer.send((0..FLOOD).map(|number| get(&work(number))).collect::<String>());
    rig.settle().await;
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200; FLOOD]);
    assert_eq!((rig.counts().overloads, rig.counts().shed), (0, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_takes_longer_than_a_request_may_wait_is_called_all_the_same() {
    let served = Served::default();
    let slow = {
        let served = Arc::clone(&served);
        async move |Path(number): Path<usize>| {
            served.lock().unwrap().push((number, Instant::now()));
            burn(Duration::from_millis(50)).await;
        }
    };
    let app = Router::new().route("/work/{number}", route_get(slow));
    let rig = Rig::with_settings(app, settings(Overload::Auto));
    let start = Instant::now();
    let mut peers = Vec::new();
    while start.elapsed() < Duration::from_secs(5) {
        // Four in the time that one takes.
        let due = (start.elapsed().as_micros() / 12_500) as usize + 1;
        while peers.len() < due {
            let mut peer = rig.connect();
            peer.send(get(&work(peers.len())));
            peers.push(peer);
        }
        tokio::task::yield_now().await;
    }
    assert!(numbers(&served).len() >= 99, "{}", numbers(&served).len());
    assert!(rig.counts().shed > 200, "{}", rig.counts().shed);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_time_that_a_core_has_slept_is_none_that_handlers_have_used() {
    let lasted = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&lasted);
    let tell =
        move |exchange: &crate::observe::Exchange<'_>| tell.lock().unwrap().push(exchange.ended - exchange.begun);
    let observer = Some(crate::observe::Observer::new(tell));
    let later = async || tokio::task::yield_now().await;
    let app = Router::new().route("/later", route_get(later)).route("/", route_get(async || "at once"));
    let rig = Rig::with_settings(app, Settings { observer, ..settings(Overload::Auto) });
    let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(3).collect();
    rig.settle().await;
    for _ in 0..10 {
        peers[0].send(get("/later"));
        rig.settle().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        peers[1..].iter_mut().for_each(|peer| peer.send(get("/")));
        rig.settle().await;
    }
    assert_eq!(*lasted.lock().unwrap(), [Duration::ZERO; 30]);
    assert_eq!((rig.counts().overloads, rig.counts().shed), (0, 0));
}
