//! More connections than files; a core that is full.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;
use std::sync::Barrier;

use axum::Router;
use axum::routing::get;
use baiwan::CloseReason;
use baiwan_driver::unshare_fd_table;

use crate::alone::{alone, limit_files};
use crate::rig::{Client, Rig, eventually};
use crate::{core, server};

fn app() -> Router {
    Router::new().route("/", get(|| async { core() }))
}

#[test]
fn a_process_holds_more_connections_than_it_may_open_files() {
    const FILES: u64 = 768;
    const CROWDS: usize = 3;
    const EACH: usize = 500;
    alone("full::a_process_holds_more_connections_than_it_may_open_files", || {
        limit_files(FILES);
        let rig = Rig::start(server(4), app());
        let (address, held, over) = (rig.address(), Barrier::new(CROWDS + 1), Barrier::new(CROWDS + 1));
        std::thread::scope(|scope| {
            for _ in 0..CROWDS {
                scope.spawn(|| {
                    // The clients need as many files as the server.
                    unshare_fd_table().unwrap();
                    let mut clients: Vec<_> = (0..EACH).map(|_| Client::connect(&address)).collect();
                    for round in 0..2 {
                        for client in &mut clients {
                            assert_eq!(client.get("/").status, 200);
                        }
                        if round == 0 {
                            held.wait();
                        }
                    }
                    over.wait();
                });
            }
            held.wait();
            assert_eq!(rig.health.connections(), (CROWDS * EACH) as u64);
            over.wait();
        });
        assert_eq!(rig.health.counts().accept_failures, 0);
        rig.stop();
    });
}

#[test]
fn a_core_that_is_full_says_so_while_the_others_take_on() {
    const CORES: usize = 4;
    alone("full::a_core_that_is_full_says_so_while_the_others_take_on", || {
        limit_files(370);
        // With these there is room for 70 connections or so on each core, and without them for all of those in the client's table.
        let others: Vec<File> = (0..170).map(|_| File::open("/dev/null").unwrap()).collect();
        let rig = Rig::start(server(CORES), app());
        let address = rig.address();
        std::thread::scope(|scope| {
            let fill = scope.spawn(|| {
                unshare_fd_table().unwrap();
                drop(others);
                let mut held: BTreeMap<String, Vec<Client<TcpStream>>> = BTreeMap::new();
                let (mut refused, mut taken_since) = (0, 0);
                // What comes after the first refusal goes to a full core or not by chance; 50 in a row do once in 10^6 years.
                while refused < 3 || taken_since < 3 {
                    assert!(refused < 50, "nobody takes on");
                    let mut client = Client::connect(&address);
                    let answer = client.get("/");
                    if answer.status == 200 {
                        held.entry(answer.text().to_owned()).or_default().push(client);
                        taken_since += usize::from(refused > 0);
                    } else {
                        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
                        refused += 1;
                    }
                }
                // Whoever is held notices nothing.
                assert!(held.values_mut().flatten().all(|client| client.get("/").status == 200));
                assert!(rig.health.is_ready() && held.len() == CORES, "there is room on other cores");
                let fullest = held.values().map(Vec::len).max().unwrap();
                let (name, full) = held.iter_mut().find(|(_, clients)| clients.len() == fullest).unwrap();
                let before = rig.health.connections();
                full.truncate(fullest - 10);
                eventually("ten have left", || rig.health.connections() == before - 10);
                // Others may be full as well by now.
                for number in 0.. {
                    assert!(number < 200, "the core that was full takes on again");
                    let answer = Client::connect(&address).get("/");
                    refused += u64::from(answer.status == 503);
                    if answer.text() == *name {
                        break;
                    }
                }
                refused
            });
            let refused = fill.join().unwrap();
            let turned_away = || rig.health.counts().closed_by(CloseReason::OverLimit);
            eventually("those who were told are gone", || turned_away() == refused);
            assert_eq!(rig.health.counts().accept_failures, 0);
        });
        rig.stop();
    });
}
