//! Checks against a real server, which goes and comes back.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{RESPONSE_TIMEOUT, RedisStore, StoreUrl, Undecided};
use crate::{Decision, Quota};

#[path = "../../tests/redis/server.rs"]
mod redis;

/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it did not come to pass that {what}");
}

/// The hashes of a key.
fn halves(key: &str) -> [u64; 2] {
    [0, 1].map(|half| {
        let mut hasher = super::hasher(half);
        key.hash(&mut hasher);
        hasher.finish()
    })
}

async fn open(server: &redis::Server) -> RedisStore {
    let store = RedisStore::open(server.url().parse().unwrap(), None);
    eventually("the store is there", || store.is_there()).await;
    store
}

/// A decision by the server: a check that came too late on a busy machine is made once more.
async fn decided(store: &RedisStore, key: &str, cost: u32, quota: &Quota) -> Decision {
    loop {
        match store.check("test", halves(key), cost, quota).await {
            Ok(decision) => return decision,
            Err(Undecided) => eventually("the store is there", || store.is_there()).await,
        }
    }
}

#[tokio::test]
async fn two_instances_share_one_budget() {
    if !redis::is_installed() {
        return;
    }
    let server = redis::Server::start();
    let (one, other) = (open(&server).await, open(&server).await);
    let quota: Quota = "10/h".parse().unwrap();
    let mut allowed = 0;
    for _ in 0..10 {
        allowed += u32::from(decided(&one, "a", 1, &quota).await.allowed);
        allowed += u32::from(decided(&other, "a", 1, &quota).await.allowed);
    }
    assert!((9..=10).contains(&allowed), "{allowed} of 10: a check that came too late may have been charged");
    let refused = decided(&one, "a", 1, &quota).await;
    assert!(!refused.allowed && refused.remaining == 0, "{refused:?}");
    assert!(refused.retry_after > Duration::from_secs(300) && refused.reset > Duration::from_secs(3500), "{refused:?}");
    let fresh = decided(&other, "b", 4, &quota).await;
    assert!(fresh.allowed && (2..=6).contains(&fresh.remaining), "{fresh:?}");
    assert!(!decided(&one, "c", 11, &quota).await.allowed, "more than the burst");
    eventually("both are counted", || one.instances() == 2 && other.instances() == 2).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_asked_no_more_until_it_is_back() {
    if !redis::is_installed() {
        return;
    }
    let server = redis::Server::start();
    let store = open(&server).await;
    let quota: Quota = "1000/s".parse().unwrap();
    let port = server.port;
    drop(server);
    eventually("it is known to be away", || !store.is_there()).await;
    for _ in 0..100 {
        assert_eq!(store.check("test", halves("a"), 1, &quota).await, Err(Undecided));
    }
    assert!(store.statistics().undecided >= 100);
    let _server = redis::Server::start_at(port);
    eventually("it is back", || store.is_there()).await;
    assert!(decided(&store, "a", 1, &quota).await.allowed);
    assert_eq!(store.instances(), 1, "the last number is kept, and this is the only one that beats");
}

#[tokio::test]
async fn a_server_that_stands_still_costs_its_first_askers_a_moment_and_nobody_after_them() {
    if !redis::is_installed() {
        return;
    }
    let server = redis::Server::start();
    let store = open(&server).await;
    let quota: Quota = "1000/s".parse().unwrap();
    server.signal("-STOP");
    let outcome = tokio::time::timeout(PATIENCE, store.check("test", halves("a"), 1, &quota)).await;
    assert_eq!(outcome.unwrap(), Err(Undecided), "after {RESPONSE_TIMEOUT:?}");
    assert!(!store.is_there() && store.statistics().lost == 1, "{:?}", store.statistics());
    assert_eq!(store.check("test", halves("a"), 1, &quota).await, Err(Undecided));
    server.signal("-CONT");
    eventually("it is back", || store.is_there()).await;
}

#[tokio::test]
async fn what_somebody_else_has_written_costs_the_checks_of_that_key_alone() {
    if !redis::is_installed() {
        return;
    }
    let server = redis::Server::start();
    let store = open(&server).await;
    let quota: Quota = "10/s".parse().unwrap();
    let key = super::stored_key("test", &super::script::Budget::new(&quota, 1), halves("a"));
    server.command(&["SET", &key, "not a number"]);
    assert!(decided(&store, "a", 1, &quota).await.allowed);
    server.command(&["DEL", &key]);
    server.command(&["RPUSH", &key, "a list"]);
    assert_eq!(store.check("test", halves("a"), 1, &quota).await, Err(Undecided));
    assert!(decided(&store, "b", 1, &quota).await.allowed);
    // A clock that was moved back leaves an arrival far ahead: it counts as a spent burst.
    server.command(&["DEL", &key]);
    server.command(&["SET", &key, "9000000000000000"]);
    let refused = decided(&store, "a", 1, &quota).await;
    assert!(!refused.allowed && refused.reset == Duration::from_secs(1), "{refused:?}");
}

#[test]
fn a_url_that_is_none_is_refused_without_being_repeated_and_one_is_shown_without_its_password() {
    for wrong in ["", "memory", "http://host", "redis:/host", "unix:/run/redis.sock", "redis://user:secret@host:port"] {
        let error = wrong.parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.contains("redis://") && !error.contains("secret"), "{wrong}: {error}");
    }
    for (url, shown) in [
        ("redis://host", "redis://host:6379/0"),
        ("rediss://user:secret@host:7000/3", "rediss://host:7000/3"),
        ("redis://:secret@[::1]:1", "redis://::1:1/0"),
    ] {
        let parsed: StoreUrl = url.parse().unwrap();
        assert_eq!(parsed.to_string(), shown);
        assert!(!format!("{parsed:?}").contains("secret"), "{parsed:?}");
    }
}
