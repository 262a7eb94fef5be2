//! The same answers from ntex, one worker, on its runtime `neon` with `io_uring`. Its deadlines and its bound on connections are
//! off.

use bench_servers::answers::{self, EVENT, HELLO, Message, SLEPT};
use futures_util::stream::{self, StreamExt};
use ntex::SharedCfg;
use ntex::http::{HttpServiceConfig, KeepAlive};
use ntex::time::{Millis, Seconds};
use ntex::util::Bytes;
use ntex::web::{self, App, HttpResponse, HttpServer};

/// As `answers::SLEEP`, in this framework's unit.
const SLEEP: Millis = Millis(bench_servers::answers::SLEEP.as_millis() as u32);

#[ntex::main]
async fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("ntex")? {
        return Ok(());
    }
    let listener = bench_servers::listener()?;
    let address = listener.local_addr()?;
    let http = HttpServiceConfig::new().set_keepalive(KeepAlive::Os).set_client_timeout(Seconds::ZERO);
    let server = HttpServer::new(async || App::new().configure(routes))
        .workers(1)
        .maxconn(usize::MAX)
        .config(SharedCfg::new("bench").add(http))
        .listen(listener)?
        .run();
    bench_servers::announce(address)?;
    server.await?;
    Ok(())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(async || HELLO))
        .route("/json", web::get().to(async || HttpResponse::Ok().json(&Message::HELLO)))
        .route("/echo", web::post().to(async |body: Bytes| body))
        .route("/sleep", web::get().to(sleep))
        .route("/pending", web::get().to(pending))
        .route("/held", web::get().to(async || answers::held()))
        .route("/sse", web::get().to(events))
        .route("/mixed", web::get().to(async || answers::mixed()));
}

async fn sleep() -> &'static str {
    ntex::time::sleep(SLEEP).await;
    SLEPT
}

async fn pending() -> &'static str {
    answers::hold();
    std::future::pending().await
}

/// One event, then silence.
async fn events() -> HttpResponse {
    let event = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(EVENT.as_bytes())) });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .header("cache-control", "no-cache")
        .streaming(Box::pin(event.chain(stream::pending())))
}
