//! `axum::serve`, by another name: one call from a listener and an app to a server that stops in order.
//!
//! It is a [`Builder`] with its defaults around a listener that is bound already, so that whoever has called [`serve`] may connect,
//! and a future that starts the cores when it is first polled. Whatever needs a setting begins with the builder instead.

mod listen;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use self::listen::Listen;
use self::listen::sealed::FromListener;
use crate::Error;
use crate::app::App;
use crate::axum_app::sealed::Taker;
use crate::axum_app::{FromIncomingStream, IntoApp};
use crate::server::{Builder, Server};

/// Serves an app, as `axum::serve` does: a change of one word in a program that has called that.
///
/// `listener` is a `TcpListener` or a `UnixListener` of Tokio or of the standard library, or an address to bind: `"0.0.0.0:8080"`,
/// `"[::]:8080"` (which serves IPv4 too), `"unix:/run/app.sock"`, `"unix:@name"` (an abstract socket, on Linux), or a
/// [`SocketAddr`](std::net::SocketAddr). `app` is whatever `axum::serve` takes, but for makers of your own: see [`IntoApp`]. Each core
/// gets a clone of it.
///
/// When this returns, the address is bound and listened on. The cores start when what it returns is first polled; a client that connects
/// before that waits. SIGTERM and SIGINT stop the server in order, unless [`with_graceful_shutdown`](Serve::with_graceful_shutdown) says what
/// does: it accepts no more, answers every request that it has received, waits for tasks that handlers have spawned, and ends after 25
/// seconds at the latest. A second signal ends it at once. What the program does after that has what is left of the 25 seconds,
/// and about a second at least: then the signal ends the process, also where the program goes on with something else, such as a loop of its
/// own. A program that handles SIGTERM or SIGINT itself must install its handler before it calls this: see [`Builder::shutdown`].
///
/// A listener that is handed over is changed for everybody who shares its socket, such as another process: it becomes non-blocking, and
/// over TCP it gets keep-alive and `TCP_NODELAY`, which the connections inherit. The file of its Unix socket stays when the server has
/// ended; that of an address given as text is gone then, and one that a dead server has left is replaced.
///
/// This needs the feature `axum`, which is a default one. Every setting has its default; [`Server::builder`] has methods to change
/// them, and serves the same apps with [`axum_app`](crate::axum_app()).
///
/// # Errors
/// When awaited: an address that cannot be bound, or what else keeps the server from starting or going on. The error contains a
/// [`baiwan::Error`](Error), which [`io::Error::downcast`] gives back.
///
/// # Examples
/// A `Router`:
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use axum::{Router, routing::get};
///
/// let router = Router::new().route("/", get(|| async { "Hello, World!" }));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// baiwan::serve(listener, router).await
/// # }
/// ```
///
/// A task of its own, and a client that connects at once:
/// ```
/// use std::future::IntoFuture;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = baiwan::serve("127.0.0.1:0", axum::routing::get(|| async { "Hello, World!" }));
/// let address = server.local_addr()?;
/// let serving = tokio::spawn(server.into_future());
/// let client = tokio::net::TcpStream::connect(address).await?;
/// # drop((client, serving));
/// # Ok(())
/// # }
/// ```
pub fn serve<L, A, Address, Kind>(listener: L, app: A) -> Serve<Address>
where
    L: Listen<Address = Address>,
    A: IntoApp<Kind>,
    A::ConnectInfo: FromIncomingStream,
    A::App: Send, // An app that is not `Send` is served by `Server::builder().bind(..).serve_with(|core| ..)`.
{
    let given = listener.into_given().map_err(Error::Start);
    let server = given.and_then(|given| Server::builder().bind_now(given.0));
    Serve { server, app: app.give_to(Boxing), address: PhantomData }
}

/// A server that listens, and serves when it is awaited: what [`serve`] returns.
///
/// `Address` is what [`local_addr`](Self::local_addr) says: [`Listen::Address`].
#[must_use = "a server serves when it is awaited"]
pub struct Serve<Address> {
    server: Result<Builder, Error>,
    app: Serving,
    address: PhantomData<fn() -> Address>,
}

/// How a builder serves an app whose type is forgotten.
type Serving = Box<dyn FnOnce(Builder) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> + Send>;

struct Boxing;

impl Taker for Boxing {
    type Taken = Serving;

    fn take<A: App + Send>(self, app: A) -> Serving {
        Box::new(|builder| Box::pin(builder.serve(app)))
    }
}

impl<Address> Serve<Address> {
    /// Stops the server in order when `signal` is ready, and no longer on SIGTERM and SIGINT.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let server = baiwan::serve("127.0.0.1:0", axum::Router::new()).with_graceful_shutdown(async {
    ///     let _ = stopped.await;
    /// });
    /// stop.send(()).unwrap();
    /// server.await
    /// # }
    /// ```
    pub fn with_graceful_shutdown<F>(self, signal: F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { server: self.server.map(|server| server.shutdown(signal)), ..self }
    }

    /// Whether connections over TCP send each answer at once, however small (`TCP_NODELAY`). Default yes. It concerns the connections
    /// that come in from here on.
    ///
    /// # Example
    /// ```
    /// let server = baiwan::serve("127.0.0.1:0", axum::Router::new()).tcp_nodelay(false);
    /// # drop(server);
    /// ```
    pub fn tcp_nodelay(self, on: bool) -> Self {
        Self { server: self.server.and_then(|server| server.tcp_nodelay_now(on)), ..self }
    }
}

#[allow(private_bounds, reason = "nobody else implements it")]
impl<Address: FromListener> Serve<Address> {
    /// Where the server listens, with the port that the system chose: a [`SocketAddr`](std::net::SocketAddr), and of a `UnixListener`
    /// Tokio's [`unix::SocketAddr`](tokio::net::unix::SocketAddr).
    ///
    /// # Errors
    /// Why the address could not be bound; `Unsupported` if it was given as the text of a Unix socket.
    ///
    /// # Example
    /// ```
    /// let server = baiwan::serve("127.0.0.1:0", axum::Router::new());
    /// assert_ne!(server.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.server {
            Ok(server) => {
                let (address, listener) = server.bound().ok_or(io::ErrorKind::NotConnected)?;
                Address::from_listener(address, listener)
            }
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

impl<Address> fmt::Debug for Serve<Address> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("server", &self.server).finish_non_exhaustive()
    }
}

impl<Address> IntoFuture for Serve<Address> {
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        let Self { server, app, .. } = self;
        ServeFuture(Box::pin(async move { Ok(app(server?).await?) }))
    }
}

/// A server as a future, for `tokio::spawn`: ends when the server has stopped. Dropping it cuts every connection.
#[must_use = "a server serves when it is awaited"]
pub struct ServeFuture(Pin<Box<dyn Future<Output = io::Result<()>> + Send>>);

impl Future for ServeFuture {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ServeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFuture").finish_non_exhaustive()
    }
}
