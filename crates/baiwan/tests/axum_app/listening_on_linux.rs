//! Addresses that only Linux has, and what is said of addresses in words of Linux.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;

use baiwan::{Error, EventLoop};

use crate::listening::{app, free_port, line};
use crate::rig::{Client, Rig, builder, server};

pub(crate) fn an_address_in_use_is_one_clear_line(event_loop: EventLoop) {
    let refused = |address: &str| {
        let error = builder(event_loop).bind(address).start(app()).unwrap_err();
        assert!(matches!(error, Error::Listen { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("cannot listen on {address}: the port is in use (`ss -ltnp` shows")),
            "{said}"
        );
        assert!(said.ends_with("choose another port"), "{said}");
    };
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(&other.local_addr().unwrap().to_string());
    // Its cores share a port, but not with others.
    let rig = Rig::start(server(event_loop), app());
    refused(&rig.address());
    rig.stop();
}

fn connect_abstract(name: &str) -> Client<UnixStream> {
    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    Client::over(UnixStream::connect_addr(&name).unwrap())
}

pub(crate) fn an_abstract_socket_is_served(event_loop: EventLoop) {
    let name = format!("baiwan-{}-{}", event_loop.name(), std::process::id());
    let address = format!("unix:@{name}");
    let rig = Rig::start(builder(event_loop).workers(2).bind(&address), app());
    assert_eq!(rig.address(), address);
    assert!(!std::path::Path::new(&format!("@{name}")).exists(), "it has no file");
    assert_eq!(connect_abstract(&name).get("/").text(), "0.0.0.0");
    let refused = line(builder(event_loop).bind(&address));
    assert!(refused.ends_with("stop it or listen elsewhere"), "{refused}");
    rig.stop();
}

pub(crate) fn at_a_path_a_dead_socket_is_replaced_and_nothing_else(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let bind = |name: &str| builder(event_loop).bind(format!("unix:{}", at(name).display()));
    std::fs::write(at("file"), "precious").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    for name in ["file", "directory"] {
        let said = line(bind(name));
        assert!(said.contains(&format!("{} is a {name}, and no socket", at(name).display())), "{said}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "precious");
    drop(std::os::unix::net::UnixListener::bind(at("dead")).unwrap());
    let rig = Rig::start(bind("dead"), app());
    assert_eq!(Client::connect_unix(&at("dead")).get("/").status, 200);
    let said = line(bind("dead"));
    assert!(said.contains("another program listens there"), "{said}");
    assert_eq!(Client::connect_unix(&at("dead")).get("/").status, 200, "it was left alone");
    rig.stop();
    assert!(line(bind("nowhere/socket")).contains("the folder for the socket does not exist"));
    assert!(line(bind(&"x".repeat(200))).contains("107 bytes"));
}

pub(crate) fn an_address_that_is_given_twice_is_called_so(event_loop: EventLoop) {
    let free = free_port();
    let both = |one: &str, other: &str| line(builder(event_loop).bind(one).bind(other));
    let (number, mapped) = (format!("127.0.0.1:{free}"), format!("[::ffff:127.0.0.1]:{free}"));
    assert_eq!(both(&number, &number), format!("{number} is given twice: leave one out"));
    let said = both(&number, &mapped);
    assert_eq!(said, format!("{mapped} is given twice, the other time as {number}: leave one out"));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("unix:{}/{name}", directory.path().display());
    let said = both(&path("a"), &path("./a"));
    assert_eq!(said, format!("{} is given twice, the other time as {}: leave one out", path("./a"), path("a")));
    let name = format!("unix:@baiwan-twice-{}-{}", event_loop.name(), std::process::id());
    assert_eq!(both(&name, &name), format!("{name} is given twice: leave one out"));
    // Port 0 is another port each time.
    drop(builder(event_loop).bind("127.0.0.1:0").bind("127.0.0.1:0").start(app()).unwrap());
}
