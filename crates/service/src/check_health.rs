//! `baiwan check-health`: asks the service that runs beside it whether it is alive, as the health check of a container does.
//!
//! ```text
//!   a URL that was given ──────────────► ask it
//!   else, by the settings of `serve`
//!     that set where the admin side is ─► ask it ─► does not answer ─► ask the server
//!     that do not ──────────────────────► ask the server
//! ```
//!
//! What is asked is `/health/live`, because a container that is not healthy is replaced: a new one helps where the cores stand still, and
//! does not where the database is away or every connection is taken. The admin side comes first, because it answers when the
//! server's connections are all taken. But a service that was not told where to have one does without it where another program has its
//! port, which may be another such service: then only the server's own address says whose answer it is. Invariant: it ends within [`DEADLINE`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use baiwan_http1::{Limits, ResponseDecoder};
use baiwan_limits::Proxies;
use baiwan_load::Target;
use baiwan_task::timeout;
use clap::Args;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::config::flags::Flags;

/// Time for everything, however many addresses are asked: less than the five seconds that the image gives it, so that it says what is wrong.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// What is asked where no path is given.
const PATH: &str = "/health/live";
/// Bytes that are received at once.
const RECEIVE_BYTES: usize = 4096;
/// The header of the PROXY protocol of somebody who connects for nobody else.
const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";
const ALLOWED: &str = "http://HOST[:PORT][/PATH], or unix:PATH for a Unix socket";

// clap takes the doc comments below as help, so they are written for the reader of `--help`. It has no `Debug`, because flags may hold
// secrets.
/// The flags of `baiwan check-health`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) flags: Flags,

    /// What to ask, such as http://localhost:8080/health/ready, or unix:PATH for a Unix socket; without a path it is /health/live
    /// [default: the admin side if the settings of `serve` say where it is, else the server]
    #[arg(value_name = "URL")]
    pub url: Option<Place>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A URL.
    Url(Target),
    /// A Unix socket, by its path, or by `@` and its name where it is an abstract one.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    /// The error is what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(ALLOWED.to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        let has_path = text.strip_prefix("http://").is_some_and(|rest| rest.contains(['/', '?']));
        let url = if has_path { text.to_owned() } else { format!("{text}{PATH}") };
        url.parse().map(Self::Url).map_err(|_| ALLOWED.to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(target) => f.write_str(&target.url),
            Self::Unix(path) => write!(f, "unix:{}{PATH}", path.display()),
        }
    }
}

/// One place, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate<'a> {
    place: Place,
    /// Whoever connects from one of these has to begin with a header of the PROXY protocol.
    proxies: Option<&'a Proxies>,
}

/// The places to ask, in this order, for a service with the settings `config`. None where a port is 0, which is any.
fn candidates(config: &Config) -> Vec<Candidate<'_>> {
    let mut candidates = Vec::new();
    let mut add = |address: &str, proxies| {
        candidates.extend(places(address).into_iter().map(|place| Candidate { place, proxies }));
    };
    if let Some(host) = config.admin.host.filter(|_| config.admin.is_asked_for()) {
        add(&SocketAddr::new(host, config.admin.port).to_string(), None);
    }
    let proxies = Some(&config.server.proxies).filter(|_| config.server.proxy_protocol);
    config.server.binding.addresses().iter().for_each(|address| add(address, proxies));
    candidates
}

/// Where one connects to what listens at `address`, which is one as `BIND` has it.
fn places(address: &str) -> Vec<Place> {
    let Ok(address) = address.parse::<SocketAddr>() else { return address.parse().into_iter().collect() };
    let port = address.port();
    let ips = addresses(address.ip()).into_iter().filter(|_| port != 0);
    ips.filter_map(|ip| format!("http://{}", SocketAddr::new(ip, port)).parse().ok()).collect()
}

/// Where one connects to what listens at `host`: nobody can connect to "all addresses".
fn addresses(host: IpAddr) -> Vec<IpAddr> {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        // Both versions of IP; one of them may be switched off.
        IpAddr::V6(host) if host.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        host => vec![host],
    }
}

/// Whether the service is healthy, in one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it answered that it is.
    pub is_healthy: bool,
    /// One line, without its end.
    pub line: String,
}

/// Asks `url`, or without one the service that the settings `config` describe.
///
/// # Errors
///
/// The settings do not say where the service is; one line that says what to do.
pub fn run(url: Option<Place>, config: &Config) -> Result<Finding, String> {
    let candidates = match url {
        Some(place) => vec![Candidate { place, proxies: None }],
        None => candidates(config),
    };
    if candidates.is_empty() {
        return Err(
            "the settings do not say where the service listens, because its port is 0: give check-health its URL"
                .to_owned(),
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime can be started: {error}"))?;
    let asked = runtime.block_on(timeout("check-health", DEADLINE, ask_all(&candidates)));
    // A name may still be looked up, on a thread.
    runtime.shutdown_background();
    Ok(asked.unwrap_or_else(|_late| Finding {
        is_healthy: false,
        line: format!("unhealthy: {} does not answer within {} s", candidates[0].place, DEADLINE.as_secs()),
    }))
}

/// The first answer counts.
async fn ask_all(candidates: &[Candidate<'_>]) -> Finding {
    let mut silent = Vec::new();
    for candidate in candidates {
        let place = &candidate.place;
        match ask(candidate).await {
            Ok(status) => {
                let is_healthy = status.is_success();
                let health = if is_healthy { "healthy" } else { "unhealthy" };
                return Finding { is_healthy, line: format!("{health}: {place} answers {}", status.as_u16()) };
            }
            Err(reason) => silent.push(format!("{place}: {reason}")),
        }
    }
    Finding { is_healthy: false, line: format!("unhealthy: {}", silent.join("; ")) }
}

/// The status that a place answers with. The error is a reason in words.
async fn ask(candidate: &Candidate<'_>) -> Result<StatusCode, String> {
    let in_words = |error: io::Error| error.to_string();
    let headers: HeaderMap = [(CONNECTION, HeaderValue::from_static("close"))].into_iter().collect();
    let request = |target: &Target| target.request(&Method::GET, &headers, None).map_err(|error| error.to_string());
    let header = |is_due: bool| if is_due { PROXY_HEADER } else { b"" };
    match &candidate.place {
        Place::Url(target) => {
            let bytes = request(target)?;
            let target = target.clone();
            let address = spawn_blocking(move || target.look_up()).await.map_err(|error| error.to_string())??;
            let stream = TcpStream::connect(address).await.map_err(in_words)?;
            let own = stream.local_addr().map_err(in_words)?.ip();
            let header = header(candidate.proxies.is_some_and(|proxies| proxies.trusts(own)));
            status(stream, &[header, &bytes].concat()).await
        }
        Place::Unix(path) => {
            let target: Target = format!("http://localhost{PATH}").parse()?;
            let name = path.to_str().and_then(|path| path.strip_prefix('@')).map(|name| format!("\0{name}").into());
            let stream = UnixStream::connect(name.as_ref().unwrap_or(path)).await.map_err(in_words)?;
            let header = header(candidate.proxies.is_some_and(Proxies::trusts_unix));
            status(stream, &[header, &request(&target)?].concat()).await
        }
    }
}

/// Sends the request and reads the head of its answer.
async fn status(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Result<StatusCode, String> {
    stream.write_all(request).await.map_err(|error| error.to_string())?;
    let limits = Limits::default();
    let mut decoder = ResponseDecoder::default();
    let mut received = Vec::new();
    loop {
        match decoder.decode(&received, false, &limits).map_err(|refusal| format!("answers no HTTP: {refusal}"))? {
            Some((head, end)) if head.is_interim() => _ = received.drain(..end),
            Some((head, _)) => return Ok(head.status),
            None => {
                received.reserve(RECEIVE_BYTES);
                match stream.read_buf(&mut received).await {
                    Ok(0) => return Err("ends the connection without an answer".to_owned()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{self, Command};

    fn asked(flags: &[&str]) -> Vec<String> {
        let words = ["baiwan", "serve"].iter().chain(flags).map(OsString::from);
        let Ok(Command::Serve(config, _)) = cli::parse(words) else { panic!("the settings are wrong: {flags:?}") };
        candidates(&config).into_iter().map(|candidate| candidate.place.to_string()).collect()
    }

    #[test]
    fn the_admin_side_is_asked_before_the_server_where_the_settings_say_where_it_is() {
        let (admin, server) = ("http://127.0.0.1:9090/health/live", "http://127.0.0.1:8080/health/live");
        assert_eq!(asked(&[]), [server], "what has the default port of the admin side may be another service");
        assert_eq!(asked(&["--admin-port", "9090"]), [admin, server]);
        assert_eq!(asked(&["--admin-host", "off"]), [server]);
        assert_eq!(
            asked(&["--admin-host", "10.0.0.7", "--host", "::1"]),
            ["http://10.0.0.7:9090/health/live", "http://[::1]:8080/health/live"]
        );
        let both = ["http://[::1]:81/health/live", "http://127.0.0.1:81/health/live"];
        assert_eq!(asked(&["--admin-port", "0", "--host", "::", "--port", "81"]), both);
        assert_eq!(asked(&["--port", "0"]), [""; 0]);
        let listed = ["http://127.0.0.1:81/health/live", "unix:/run/a.sock/health/live", "unix:@a/health/live"];
        assert_eq!(asked(&["--bind", "0.0.0.0:81,unix:/run/a.sock,unix:@a"]), listed);
    }

    #[test]
    fn a_place_without_a_path_is_asked_whether_it_is_alive() {
        for (text, shown) in [
            ("http://localhost:80", "http://localhost:80/health/live"),
            ("http://[::1]:80/health/ready", "http://[::1]:80/health/ready"),
            ("http://localhost/", "http://localhost/"),
            ("unix:/run/baiwan.sock", "unix:/run/baiwan.sock/health/live"),
            ("unix:@baiwan", "unix:@baiwan/health/live"),
        ] {
            assert_eq!(text.parse::<Place>().map(|place| place.to_string()).as_deref(), Ok(shown));
        }
        for wrong in ["localhost", "https://localhost/", "unix:", "", "http://", "http://ada:secret@host/"] {
            assert_eq!(wrong.parse::<Place>(), Err(ALLOWED.to_owned()), "{wrong}");
        }
    }
}
