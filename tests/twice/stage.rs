//! One of the two servers, with a program on it, and the record of what its clients see.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::client::Client;
use crate::differences::Difference;

/// Nothing that works takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a program waits for that stops in order; ready when the script says so.
pub(crate) type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Axum,
    Baiwan,
}

/// A program's `main`, with what it is given as its type.
pub(crate) trait Program<Given>: Send + 'static {
    fn run(self, sockets: Sockets, stop: Stop) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
}

/// Makes of a function that takes these sockets a program. Programs that stop in order take a [`Stop`] as well.
macro_rules! program {
    ($($socket:ident: $type:ty),*) => {
        impl<F, R> Program<($($type,)*)> for F
        where
            F: FnOnce($($type),*) -> R + Send + 'static,
            R: Future<Output = io::Result<()>> + Send + 'static,
        {
            fn run(self, sockets: Sockets, _: Stop) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
                let Sockets { $($socket,)* .. } = sockets;
                Box::pin(async move { self($($socket.into()),*).await })
            }
        }

        impl<F, R> Program<($($type,)* Stop)> for F
        where
            F: FnOnce($($type,)* Stop) -> R + Send + 'static,
            R: Future<Output = io::Result<()>> + Send + 'static,
        {
            fn run(self, sockets: Sockets, stop: Stop) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
                let Sockets { $($socket,)* .. } = sockets;
                Box::pin(async move { self($($socket.into(),)* stop).await })
            }
        }
    };
}

program!(first: TcpListener);
program!(first: TcpListener, second: TcpListener);
program!(unix: UnixListener);
program!(standard: std::net::TcpListener);

/// The listening sockets that programs are given, whichever they want.
pub(crate) struct Sockets {
    first: TcpListener,
    second: TcpListener,
    standard: std::net::TcpListener,
    unix: UnixListener,
}

/// A running program. Its end is the end of the test.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) second: SocketAddr,
    pub(crate) standard: SocketAddr,
    pub(crate) folder: Arc<tempfile::TempDir>,
    record: RefCell<Vec<String>>,
    stop: RefCell<Option<oneshot::Sender<()>>>,
    cut: Option<oneshot::Sender<()>>,
    program: Option<JoinHandle<Option<io::Result<()>>>>,
    /// For clients that are asynchronous.
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// Starts a program on a thread and runtime of its own, as `#[tokio::main]` would.
    pub(crate) fn start<Given>(server: Server, program: impl Program<Given>) -> Self {
        let listener = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second, standard) = (listener(), listener(), listener());
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let unix = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let addresses = [&first, &second, &standard].map(|listener| listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let (cut, is_cut) = oneshot::channel::<()>();
        let stopped = Box::pin(async {
            // A sender that is gone says the same.
            let _ = stopped.await;
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let program = std::thread::spawn(move || {
            let outcome = runtime.block_on(async {
                first.set_nonblocking(true).unwrap();
                second.set_nonblocking(true).unwrap();
                unix.set_nonblocking(true).unwrap();
                let sockets = Sockets {
                    first: TcpListener::from_std(first).unwrap(),
                    second: TcpListener::from_std(second).unwrap(),
                    standard,
                    unix: UnixListener::from_std(unix).unwrap(),
                };
                tokio::select! {
                    outcome = program.run(sockets, stopped) => Some(outcome),
                    _ = is_cut => None,
                }
            });
            runtime.shutdown_background();
            outcome
        });
        Self {
            server,
            address: addresses[0],
            second: addresses[1],
            standard: addresses[2],
            folder,
            record: RefCell::new(Vec::new()),
            stop: RefCell::new(Some(stop)),
            cut: Some(cut),
            program: Some(program),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Writes down what must be the same on both.
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.record.borrow_mut().push(what.into());
    }

    /// What is documented to differ: `found` is the one on axum, the other on Baiwan.
    #[track_caller]
    pub(crate) fn differs<T: PartialEq + std::fmt::Debug>(
        &self,
        difference: Difference,
        found: T,
        on_axum: T,
        on_baiwan: T,
    ) {
        assert_differs(self.server, difference, found, on_axum, on_baiwan);
    }

    /// Writes an answer down whose field of that name is documented to differ: its value on axum, and on Baiwan.
    #[track_caller]
    pub(crate) fn differs_in(
        &self,
        difference: Difference,
        answer: &Answer,
        field: &str,
        on_axum: Option<&str>,
        on_baiwan: Option<&str>,
    ) {
        self.differs(difference, answer.field(field), on_axum, on_baiwan);
        self.note(answer.without(field).normalised());
    }

    pub(crate) fn connect(&self) -> Client<'_> {
        Client::connect(self, self.address)
    }

    pub(crate) fn connect_to(&self, address: SocketAddr) -> Client<'_> {
        Client::connect(self, address)
    }

    pub(crate) fn connect_unix(&self) -> Client<'_> {
        Client::connect_unix(self, &self.folder.path().join("socket"))
    }

    /// Asks on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, fields: &str, body: impl AsRef<[u8]>) -> Answer {
        self.connect().ask(method, path, fields, body)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, fields: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("POST", path, fields, body)
    }

    /// Runs an asynchronous client.
    pub(crate) fn block_on<T>(&self, client: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, client).await.expect("in time") })
    }

    /// Tells the program to stop.
    pub(crate) fn begin_stop(&self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until `main` has returned.
    #[track_caller]
    pub(crate) fn wait(&mut self) {
        let outcome = self.outcome();
        self.note(format!("main returned {outcome}"));
    }

    /// Waits until `main` has returned, and says what; none if it was cut.
    #[track_caller]
    pub(crate) fn outcome(&mut self) -> String {
        let program = self.program.take().unwrap();
        eventually("the program has ended", || program.is_finished());
        let outcome = program.join().unwrap().map(|outcome| outcome.map_err(|error| error.to_string()));
        format!("{outcome:?}")
    }

    /// Whether `main` has not returned yet.
    pub(crate) fn is_running(&self) -> bool {
        self.program.as_ref().is_some_and(|program| !program.is_finished())
    }

    /// Drops the program where it stands.
    pub(crate) fn cut(&mut self) {
        let _ = self.cut.take().unwrap().send(());
        self.wait();
    }

    /// Ends the program, however it likes to be ended, and gives the record.
    pub(crate) fn finish(mut self) -> Vec<String> {
        if self.program.is_some() {
            self.cut();
        }
        self.record.take()
    }
}

impl Drop for Stage {
    /// A script that failed leaves no server behind.
    fn drop(&mut self) {
        if let (Some(cut), Some(program)) = (self.cut.take(), self.program.take()) {
            let _ = cut.send(());
            let _ = program.join();
        }
    }
}

/// Fails unless what was found is what is documented of that server.
#[track_caller]
pub(crate) fn assert_differs<T: PartialEq + std::fmt::Debug>(
    server: Server,
    difference: Difference,
    found: T,
    on_axum: T,
    on_baiwan: T,
) {
    assert_ne!(on_axum, on_baiwan, "no difference: {}", difference.0);
    let expected = if server == Server::Axum { on_axum } else { on_baiwan };
    assert_eq!(found, expected, "on {server:?}: {}", difference.0);
}

/// Waits for a condition, and fails when it does not come.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not come to pass that {what}");
}
