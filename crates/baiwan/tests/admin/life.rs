//! From before the first core to after the last one.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use axum::Router;
use axum::routing::get as on_get;
use baiwan::{Admin, Error, EventLoop};
use tokio::sync::Notify;

use crate::blocked::lines;
use crate::rig::{Rig, eventually, server};
use crate::{admin, get};

#[test]
fn it_goes_on_while_the_server_drains_and_ends_with_it() {
    for event_loop in [EventLoop::Auto, EventLoop::Portable] {
        let (go, waits) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (going, waiting) = (Arc::clone(&go), Arc::clone(&waits));
        let handler = move || async move {
            waiting.notify_one();
            going.notified().await;
        };
        let rig = Rig::start(server(event_loop).admin(admin()), Router::new().route("/", on_get(handler)));
        let address = rig.running.admin_address().unwrap();
        let ask = |path: &str| {
            let mut client = crate::rig::Client::connect(&address.to_string());
            client.get(path).status
        };
        let mut client = rig.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(waits.notified());
        assert_eq!(ask("/health/ready"), 200);
        let stopping = rig.begin_stop();
        eventually("it is not ready", || ask("/health/ready") == 503);
        assert_eq!([ask("/health/live"), ask("/health/startup"), ask("/metrics")], [200; 3]);
        go.notify_one();
        assert_eq!(client.answer(false).status, 200);
        drop(client);
        stopping.join().unwrap().unwrap();
        assert!(TcpStream::connect(address).is_err(), "whoever hears of the end may start the next one");
        drop(TcpListener::bind(address).unwrap());
    }
}

#[test]
fn a_port_that_was_asked_for_and_is_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = server(EventLoop::Auto).admin(Admin::bind(address)).start(Router::new()).unwrap_err();
    assert!(matches!(&error, Error::Admin { address: given, .. } if *given == address.to_string()), "{error}");
    assert!(error.to_string().contains("the admin side cannot listen on 127.0.0.1:"), "{error}");
    for wrong in ["9090", "unix:/tmp/admin.sock", ""] {
        let error = server(EventLoop::Auto).admin(Admin::bind(wrong)).start(Router::new()).unwrap_err();
        assert!(matches!(&error, Error::AdminAddress { .. }), "{error}");
    }
    for wrong in ["", "0123456789abcde"] {
        let error = server(EventLoop::Auto).admin(admin().token(wrong)).start(Router::new()).unwrap_err();
        assert!(matches!(&error, Error::AdminToken { .. }), "{error}");
        assert!(error.to_string().contains("16 to 512 characters"), "{error}");
    }
}

#[test]
fn a_port_that_nobody_asked_for_and_is_in_use_is_a_warning() {
    lines(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let rig = Rig::start(server(EventLoop::Auto).admin(Admin::bind(address).optional("CHAT_PORT")), Router::new());
    assert_eq!(rig.running.admin_address(), None);
    assert_eq!(rig.connect().get("/").status, 404);
    assert_eq!(lines(&["WARN", "there is no admin side", "CHAT_PORT", &address.to_string()]).len(), 1);
}

#[test]
fn an_address_that_nobody_asked_for_and_that_fails_otherwise_is_an_error() {
    // Reserved for documents (RFC 5737): no machine has it.
    let admin = Admin::bind("192.0.2.1:9090").optional("CHAT_PORT");
    let error = server(EventLoop::Auto).admin(admin).start(Router::new()).unwrap_err();
    assert!(matches!(&error, Error::Admin { .. }), "{error}");
}

#[test]
fn a_server_that_is_dropped_takes_its_admin_side_along() {
    let rig = Rig::start(server(EventLoop::Auto).admin(admin()), Router::new());
    assert_eq!(get(&rig, "/health/live").status, 200);
    let address = rig.running.admin_address().unwrap();
    drop(rig);
    assert!(TcpStream::connect(address).is_err());
}
