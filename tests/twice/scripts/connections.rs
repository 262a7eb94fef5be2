//! What programs hand to `serve`, and what they know of who connects.

use crate::comparison::twice;
use crate::differences::{CONNECT_INFO, NODELAY};
use crate::stage::Stage;

twice! {
    from_std;
    unix;
    unix_connected;
    method_router;
    method_router_with_state;
    plain_service;
    handler;
    handler_with_state;
    make_service;
    connect_info;
    no_connect_info;
    connected;
}

fn from_std(stage: &mut Stage) {
    let address = stage.standard;
    stage.connect_to(address).get("/").expect(200).says("inherited");
}

fn unix(stage: &mut Stage) {
    let mut client = stage.connect_unix();
    client.get("/").expect(200).says("over a file");
    client.ask("POST", "/echo", "", "hello").expect(200).says("hello");
    client.get("/none").expect(404);
    let peer = client.ask_unrecorded("GET", "/peer", "", b"");
    let found = if peer.status() == 200 { peer.text() } else { "none" };
    stage.differs(CONNECT_INFO, found, "none", "0.0.0.0:0");
    drop(client);
    stage.begin_stop();
    stage.wait();
}

fn unix_connected(stage: &mut Stage) {
    let mut client = stage.connect_unix();
    let expected = format!("Some({}) true", std::process::id());
    client.get("/").expect(200).says(&expected);
    client.get("/").expect(200).says(&expected);
}

fn method_router(stage: &mut Stage) {
    stage.get("/").expect(200);
    stage.get("/any/path").expect(200).says("for every path");
    stage.post("/", "", "this").expect(200).says("posted this");
    stage.ask("PUT", "/", "", "").expect(405);
    stage.ask("HEAD", "/", "", "").expect(200);
}

fn handler(stage: &mut Stage) {
    for method in ["GET", "POST", "PURGE"] {
        stage.ask(method, "/a?b", "", "").expect(200).says(&format!("{method} /a?b"));
    }
}

fn handler_with_state(stage: &mut Stage) {
    let mut client = stage.connect();
    let expected = format!("you are {}", client.local_address());
    assert_eq!(client.ask_unrecorded("GET", "/", "", b"").expect(200).text(), expected);
}

fn make_service(stage: &mut Stage) {
    stage.get("/").expect(200).says("made");
    stage.begin_stop();
    stage.wait();
}

fn connect_info(stage: &mut Stage) {
    for _ in 0..3 {
        let mut client = stage.connect();
        let expected = client.local_address().to_string();
        for _ in 0..2 {
            let answer = client.ask_unrecorded("GET", "/", "", b"").expect(200).says(&expected);
            assert_eq!(answer.field("x-loopback"), Some("true"));
        }
    }
    stage.get("/none").expect(404);
}

fn no_connect_info(stage: &mut Stage) {
    let status = stage.connect().ask_unrecorded("GET", "/", "", b"").status();
    stage.differs(CONNECT_INFO, status, 500, 200);
}

fn connected(stage: &mut Stage) {
    let mut clients = [stage.connect(), stage.connect()];
    for _ in 0..2 {
        for client in &mut clients {
            let expected = format!("{} {}", client.local_address(), stage.address.port());
            client.ask_unrecorded("GET", "/", "", b"").expect(200).says(&expected);
        }
    }
    // The clients above may have connected before `serve` was called; this one has not.
    let nodelay = stage.connect().ask_unrecorded("GET", "/nodelay", "", b"").text().to_owned();
    stage.differs(NODELAY, nodelay, "false".to_owned(), "true".to_owned());
}

fn method_router_with_state(stage: &mut Stage) {
    stage.get("/").expect(200).says("0");
    stage.post("/any/path", "", "").expect(200).says("1 by 127.0.0.1");
    stage.post("/", "", "").expect(200).says("2 by 127.0.0.1");
    stage.ask("DELETE", "/", "", "").expect(501).says("get or post");
    stage.begin_stop();
    stage.wait();
}

fn plain_service(stage: &mut Stage) {
    let mut client = stage.connect();
    client.get("/a/b/?c").expect(200).says("Some(127.0.0.1) GET /a/b?c Some(0)");
    client.ask("POST", "/", "", "body").expect(200).says("Some(127.0.0.1) POST / Some(4)");
    client.ask("HEAD", "/", "", "").expect(200);
}
