//! How long a scrape takes of a server with many routes, each of which was asked: prints the routes, the bytes of the scrape, and the
//! median of the milliseconds that it takes the thread that asks.
//!
//!     cargo run --release --package bench-servers --features metrics --bin scrape -- 1000

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::Context;
use axum::Router;
use axum::routing::get;

/// Scrapes of which the median is taken.
const SCRAPES: usize = 21;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let routes: usize = std::env::args().nth(1).map_or(Ok(1000), |count| count.parse())?;
    let app = (0..routes).fold(Router::new(), |app, number| {
        app.route(&format!("/api/v1/resources-{number}/{{id}}"), get(|| async { "hello" }))
    });
    let mut builder = baiwan::Server::builder().bind("127.0.0.1:0").workers(2);
    let metrics = builder.metrics();
    let server = builder.start(app)?;
    let address = server.addresses().into_iter().next().context("it listens")?;
    for number in 0..routes {
        let mut client = TcpStream::connect(&address)?;
        write!(client, "GET /api/v1/resources-{number}/1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        client.read_to_end(&mut Vec::new())?;
    }
    let mut bytes = 0;
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        bytes = metrics.render().len();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    bench_servers::say(format!("{routes} routes, {bytes} bytes, {:.1} ms", times[SCRAPES / 2]))?;
    Ok(())
}
