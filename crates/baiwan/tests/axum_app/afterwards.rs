//! What cores do for each other, and for what handlers left behind, when a server stops.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use baiwan::EventLoop;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::rig::{Client, Rig, eventually, server};

/// The kernel spreads connections by a hash: so many of them miss one of two cores once in 2^99.
const CONNECTIONS_MAX: usize = 100;

/// A task on one core that answers for as long as somebody may ask, as the connection of a client does.
type Asking = mpsc::Sender<oneshot::Sender<&'static str>>;

#[derive(Clone)]
struct Shared {
    /// Where the task on the first core is asked.
    asking: Asking,
    /// Its other end, until the task has it.
    asked: Arc<Mutex<Option<mpsc::Receiver<oneshot::Sender<&'static str>>>>>,
    go: Arc<Notify>,
}

/// Says when the app of a core was dropped.
struct OnDrop(std::sync::mpsc::SyncSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn keep(State(shared): State<Shared>) {
    let mut asked = shared.asked.lock().unwrap().take().unwrap();
    tokio::spawn(async move {
        while let Some(answer) = asked.recv().await {
            let _ = answer.send("from the first core");
        }
    });
}

async fn ask(State(shared): State<Shared>) -> &'static str {
    shared.go.notified().await;
    let (answer, answered) = oneshot::channel();
    match shared.asking.send(answer).await {
        Ok(()) => answered.await.unwrap_or("it was asked, and is gone"),
        Err(_) => "it is gone",
    }
}

/// A client on a core, by number.
fn connect_to(rig: &Rig, core: usize) -> Client<TcpStream> {
    for _ in 0..CONNECTIONS_MAX {
        let mut client = rig.connect();
        if client.get("/core").text() == core.to_string() {
            return client;
        }
    }
    panic!("core {core} did not take part");
}

pub(crate) fn a_core_that_is_done_serves_the_others_until_all_are(event_loop: EventLoop) {
    let (asking, asked) = mpsc::channel(1);
    let asked = Arc::new(Mutex::new(Some(asked)));
    let go = Arc::new(Notify::new());
    let (dropped, is_dropped) = std::sync::mpsc::sync_channel(1);
    let on_drop = Mutex::new(Some(Arc::new(OnDrop(dropped))));
    let (shared_asking, shared_go) = (asking.clone(), Arc::clone(&go));
    let rig = Rig::start_with(server(event_loop).workers(2), move |core| {
        let over = if core == 0 { on_drop.lock().unwrap().take() } else { None };
        let (asking, asked, go) = (shared_asking.clone(), Arc::clone(&asked), Arc::clone(&shared_go));
        let shared = Shared { asking, asked, go };
        Router::new()
            .route(
                "/core",
                get(move || {
                    let _ = &over;
                    async move { core.to_string() }
                }),
            )
            .route("/keep", get(keep))
            .route("/ask", get(ask))
            .with_state(shared)
    });
    let mut first = connect_to(&rig, 0);
    assert_eq!(first.get("/keep").status, 200);
    drop(first);
    let mut second = connect_to(&rig, 1);
    let before = rig.health.counts().requests;
    second.send("GET /ask HTTP/1.1\r\nHost: test\r\n\r\n");
    let health = rig.health.clone();
    eventually("it is taken in", || health.counts().requests == before + 1);
    let stopping = rig.begin_stop();
    is_dropped.recv().unwrap();
    // A core that is done without the others ends its runtime at once.
    std::thread::park_timeout(Duration::from_millis(50));
    go.notify_one();
    assert_eq!(second.answer(false).text(), "from the first core");
    drop((second, asking));
    stopping.join().unwrap().unwrap();
}

/// An app whose `/job` leaves a job behind that ends when it is told to, and what says that it has ended in order.
fn leaving_a_job(go: &Arc<Notify>, blocking: bool) -> (Router, Arc<AtomicUsize>) {
    let done = Arc::new(AtomicUsize::new(0));
    let (go, counted) = (Arc::clone(go), Arc::clone(&done));
    let job = move || async move {
        let job = async move {
            go.notified().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            counted.fetch_add(1, Relaxed);
        };
        if blocking {
            // It waits for the runtime of its core.
            let runtime = Handle::current();
            drop(tokio::task::spawn_blocking(move || runtime.block_on(job)));
        } else {
            tokio::spawn(job);
        }
    };
    (Router::new().route("/job", get(job)), done)
}

pub(crate) fn a_job_that_a_handler_left_behind_is_finished(event_loop: EventLoop) {
    // Longer than the test has.
    let long = Duration::from_secs(3600);
    for (blocking, grace) in [(false, None), (true, None), (false, Some(long)), (true, Some(long))] {
        let go = Arc::new(Notify::new());
        let (app, done) = leaving_a_job(&go, blocking);
        let rig = Rig::start(server(event_loop).shutdown_timeout(long).shutdown_grace(grace), app);
        assert_eq!(rig.connect().get("/job").status, 200);
        let (address, health) = (rig.address(), rig.health.clone());
        eventually("every connection is closed", || health.connections() == 0);
        let stopping = rig.begin_stop();
        eventually("nobody listens any more", || TcpStream::connect(&address).is_err());
        // A stop that does not wait for jobs is over by then.
        std::thread::park_timeout(Duration::from_millis(50));
        assert!(!stopping.is_finished(), "the job goes on");
        go.notify_one();
        stopping.join().unwrap().unwrap();
        assert_eq!(done.load(Relaxed), 1, "blocking: {blocking}, grace: {grace:?}");
    }
}

pub(crate) fn a_job_may_go_on_for_the_grace_and_the_time_of_the_stop(event_loop: EventLoop) {
    let (long, short) = (Duration::from_secs(3600), Duration::from_millis(50));
    for (timeout, grace) in [(long, Some(short)), (long, Some(Duration::ZERO)), (short, None), (short, Some(long))] {
        for blocking in [false, true] {
            let go = Arc::new(Notify::new());
            let (app, _done) = leaving_a_job(&go, blocking);
            let builder = server(event_loop).workers(2).shutdown_timeout(timeout).shutdown_grace(grace);
            let rig = Rig::start(builder, app);
            assert_eq!(rig.connect().get("/job").status, 200);
            // The job waits for what comes after the stop, which ends all the same.
            rig.stop();
            // The thread of a blocking call would outlive the test.
            go.notify_one();
        }
    }
}

/// Spawns a task that spawns the next one on the next core, and so on.
fn hop(cores: Arc<Vec<Handle>>, left: usize, done: Arc<AtomicUsize>) {
    let Some(left) = left.checked_sub(1) else { return };
    let next = cores[left % cores.len()].clone();
    next.spawn(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        done.fetch_add(1, Relaxed);
        hop(cores, left, done);
    });
}

pub(crate) fn a_chain_of_jobs_that_changes_cores_is_finished(event_loop: EventLoop) {
    const HOPS: usize = 400;
    let done = Arc::new(AtomicUsize::new(0));
    let (cores, counted) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&done));
    let rig = Rig::start_with(server(event_loop).workers(2), move |_| {
        cores.lock().unwrap().push(Handle::current());
        let (cores, done) = (Arc::clone(&cores), Arc::clone(&counted));
        let begin = || async move { hop(Arc::new(cores.lock().unwrap().clone()), HOPS, done) };
        Router::new().route("/", get(begin))
    });
    assert_eq!(rig.connect().get("/").status, 200);
    rig.stop();
    assert_eq!(done.load(Relaxed), HOPS);
}

pub(crate) fn dropping_the_server_ends_the_grace(event_loop: EventLoop) {
    let (ended, is_ended) = std::sync::mpsc::sync_channel(1);
    let ended = Arc::new(OnDrop(ended));
    let job = move || async move {
        let ended = Arc::clone(&ended);
        drop(tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(ended);
        }));
    };
    let builder = server(event_loop).workers(2).shutdown_timeout(Duration::from_secs(3600));
    let builder = builder.shutdown(std::future::ready(()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = builder.start(Router::new().route("/job", get(job))).unwrap();
    let address = running.addresses().remove(0);
    assert_eq!(Client::connect(&address).get("/job").status, 200);
    let over = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), running.wait()).await });
    assert!(over.is_err(), "the job goes on");
    is_ended.recv().unwrap();
}

pub(crate) fn what_the_app_alone_holds_ends_before_the_grace(event_loop: EventLoop) {
    let other = Rig::start(server(event_loop), Router::new().route("/", get(|| async { "from there" })));
    let url = format!("http://{}/", other.address());
    let fetch = |State(client): State<reqwest::Client>| async move {
        client.get(url).send().await.unwrap().text().await.unwrap()
    };
    let app = Router::new().route("/", get(fetch)).with_state(reqwest::Client::new());
    // Longer than the test has; the client keeps a connection to the other server.
    let rig = Rig::start(server(event_loop).workers(2).shutdown_timeout(Duration::from_secs(3600)), app);
    assert_eq!(rig.connect().get("/").text(), "from there");
    rig.stop();
    other.stop();
}

pub(crate) fn a_job_may_use_what_lives_on_another_core(event_loop: EventLoop) {
    let (asking, asked) = mpsc::channel(1);
    let shared = Shared { asking, asked: Arc::new(Mutex::new(Some(asked))), go: Arc::default() };
    let (said, heard) = std::sync::mpsc::sync_channel(1);
    let job = move |State(shared): State<Shared>| async move {
        let said = said.clone();
        drop(tokio::spawn(async move { said.send(ask(State(shared)).await) }));
    };
    let go = Arc::clone(&shared.go);
    let rig = Rig::start_with(server(event_loop).workers(2), move |core| {
        Router::new()
            .route("/core", get(move || async move { core.to_string() }))
            .route("/keep", get(keep))
            .route("/job", get(job.clone()))
            .with_state(shared.clone())
    });
    assert_eq!(connect_to(&rig, 0).get("/keep").status, 200);
    assert_eq!(connect_to(&rig, 1).get("/job").status, 200);
    let (address, health) = (rig.address(), rig.health.clone());
    eventually("every connection is closed", || health.connections() == 0);
    let stopping = rig.begin_stop();
    eventually("nobody listens any more", || TcpStream::connect(&address).is_err());
    std::thread::park_timeout(Duration::from_millis(50));
    go.notify_one();
    assert_eq!(heard.recv(), Ok("from the first core"));
    stopping.join().unwrap().unwrap();
}

pub(crate) fn a_core_that_a_handler_blocks_is_given_up_when_the_time_of_the_stop_is_over(event_loop: EventLoop) {
    let (blocks, is_blocked) = std::sync::mpsc::sync_channel(1);
    let go = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&go);
    let block = move || async move {
        let _ = blocks.try_send(());
        while !gone.load(Relaxed) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    };
    let app = Router::new().route("/", get(block));
    let rig = Rig::start(server(event_loop).shutdown_timeout(Duration::from_millis(200)), app);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    is_blocked.recv().unwrap();
    // Nothing asks it a second time, and its thread hears of nothing.
    rig.begin_stop().join().unwrap().unwrap();
    go.store(true, Relaxed);
}
