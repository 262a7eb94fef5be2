//! What stands between the service and its PostgreSQL, can be shut and counts who comes.
//!
//! Shut, it accepts connections and closes them at once, as a server that is overloaded or a balancer without servers does.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::postgres::{Database, Server};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    way: Arc<Way>,
}

struct Way {
    target: SocketAddr,
    is_open: AtomicBool,
    attempts: AtomicUsize,
    /// What passes through it, from both sides.
    streams: Mutex<Vec<TcpStream>>,
}

/// The URL of a database through a proxy, that leads to the server.
pub(crate) fn through(proxy: &Proxy, server: &Server, database: &Database) -> String {
    database.url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port))
}

impl Proxy {
    /// An open one, to a port of 127.0.0.1. It ends with the test's process: nobody waits for it.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let way = Arc::new(Way {
            target: (Ipv4Addr::LOCALHOST, port).into(),
            is_open: true.into(),
            attempts: AtomicUsize::new(0),
            streams: Mutex::default(),
        });
        let proxy = Self { port: listener.local_addr().unwrap().port(), way: Arc::clone(&way) };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                way.attempts.fetch_add(1, SeqCst);
                way.connect(client);
            }
        });
        proxy
    }

    /// Connections that were asked for so far.
    pub(crate) fn attempts(&self) -> usize {
        self.way.attempts.load(SeqCst)
    }

    pub(crate) fn open(&self) {
        self.way.is_open.store(true, SeqCst);
    }

    /// Cuts all connections, and closes those that come.
    pub(crate) fn shut(&self) {
        let mut streams = self.way.streams.lock().unwrap();
        self.way.is_open.store(false, SeqCst);
        streams.drain(..).for_each(|stream| end(&stream));
    }
}

impl Way {
    fn connect(&self, client: TcpStream) {
        let mut streams = self.streams.lock().unwrap();
        if !self.is_open.load(SeqCst) {
            return;
        }
        // Closed, like what comes while it is shut.
        let Ok(server) = TcpStream::connect(self.target) else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                // However it ends, it is the end of both.
                let _ = std::io::copy(&mut from, &mut to);
                end(&from);
                end(&to);
            });
        }
        streams.extend([client, server]);
    }
}

fn end(stream: &TcpStream) {
    // It may have ended already.
    let _ = stream.shutdown(Shutdown::Both);
}
