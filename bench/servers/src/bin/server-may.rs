//! The same answers from `may_minihttp`, one worker thread. It has no deadlines, and no answer without a length, so no `/sse`.
//! It writes every header name in its own way, and a `Server` header that cannot be off. It may be told its `ADDRESS`.

use std::io::{self, Read};

use anyhow::Context;
use bench_servers::answers::{self, HELLO, Message, SLEEP, SLEPT};
use bytes::BufMut;
use may_minihttp::{HttpServer, HttpService, Request, Response};

/// What axum names the type of a text.
const TEXT: &str = "content-type: text/plain; charset=utf-8";

#[derive(Clone)]
struct App;

impl HttpService for App {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match request.path() {
            "/" => response.header(TEXT).body(HELLO),
            "/json" => {
                let body = response.header("content-type: application/json").body_mut();
                serde_json::to_writer(body.writer(), &Message::HELLO)?;
            }
            "/echo" => {
                let mut body = Vec::new();
                request.body().read_to_end(&mut body)?;
                response.header("content-type: application/octet-stream").body_vec(body);
            }
            "/sleep" => {
                may::coroutine::sleep(SLEEP);
                response.header(TEXT).body(SLEPT);
            }
            "/pending" => {
                answers::hold();
                loop {
                    may::coroutine::park();
                }
            }
            "/held" => response.header(TEXT).body_vec(answers::held().into_bytes()),
            "/mixed" => response.header(TEXT).body(answers::mixed()),
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("may_minihttp")? {
        return Ok(());
    }
    // Whoever measures has chosen the core.
    may::config().set_workers(1).set_worker_pin(false);
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let server = HttpServer(App).start(address.as_str())?;
    match bench_servers::widen() {
        Ok(listener) => bench_servers::announce(listener.context("nobody listens")?)?,
        // Some versions of valgrind do not know the calls that this needs. What it counts does not depend on the backlog.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => bench_servers::announce(address)?,
        Err(error) => return Err(error.into()),
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))
}
