//! The same answers from actix-web, one worker. Its deadlines and its bound on connections are off.

use std::time::Duration;

use actix_web::http::KeepAlive;
use actix_web::{App, HttpResponse, HttpServer, web};
use bench_servers::answers::{self, EVENT, HELLO, Message, SLEEP, SLEPT};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("actix-web")? {
        return Ok(());
    }
    let listener = bench_servers::listener()?;
    let address = listener.local_addr()?;
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(|| App::new().configure(routes))
            .workers(1)
            .max_connections(usize::MAX)
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(Duration::ZERO)
            .listen(listener)?
            .run();
        bench_servers::announce(address)?;
        server.await
    })?;
    Ok(())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(|| async { HELLO }))
        .route("/json", web::get().to(|| async { web::Json(Message::HELLO) }))
        .route("/echo", web::post().to(|body: Bytes| async { body }))
        .route("/sleep", web::get().to(sleep))
        .route("/pending", web::get().to(pending))
        .route("/held", web::get().to(|| async { answers::held() }))
        .route("/sse", web::get().to(events))
        .route("/mixed", web::get().to(|| async { answers::mixed() }));
}

async fn sleep() -> &'static str {
    actix_web::rt::time::sleep(SLEEP).await;
    SLEPT
}

async fn pending() -> &'static str {
    answers::hold();
    std::future::pending().await
}

/// One event, then silence.
async fn events() -> HttpResponse {
    let event = stream::once(async { Ok::<_, actix_web::Error>(Bytes::from_static(EVENT.as_bytes())) });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .streaming(event.chain(stream::pending()))
}
