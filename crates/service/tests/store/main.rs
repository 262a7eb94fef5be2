//! The store's promises: the same for an SQLite file and a PostgreSQL database, and those of the file alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[macro_use]
#[path = "../stores/mod.rs"]
#[allow(dead_code, reason = "other tests need other parts of it")]
mod stores;

mod changes;
mod file;
mod keys;
mod moved;
mod plans;
mod races;
mod tls;
mod versions;

use std::time::Duration;

use baiwan_service::store::{Change, Condition, CoreStore, Fields, IdempotencyKey, Store, StoreError, User};

use stores::{Place, options};

/// Looks at whether a store has its connections, and the time between two.
const LOOKS_MAX: usize = 1_000;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const CREATED_AT: &str = "2026-11-22T10:15:00.123Z";

/// An open store of two cores.
struct Opened {
    place: Place,
    store: Store,
    core: CoreStore,
    other: CoreStore,
}

impl Opened {
    /// Opens it where it is; a store that was there before must be closed.
    async fn at(place: Place) -> Self {
        let store = Store::open(&place.location(), &options(2)).await.unwrap();
        let (core, other) = (store.for_core(0), store.for_core(1));
        for core in [&core, &other] {
            core.open();
            wait_for(core).await;
        }
        Self { place, store, core, other }
    }

    /// Closes it and opens it again.
    async fn again(self) -> Self {
        let Self { place, store, .. } = self;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        Self::at(place).await
    }

    async fn create(&self, name: &str) -> Result<User, StoreError> {
        self.core.apply(create(name)).await
    }

    async fn replace(&self, id: i64, name: &str, condition: Condition) -> Result<User, StoreError> {
        self.core.apply(Change::Replace { id, fields: fields(name), condition }).await
    }

    async fn delete(&self, id: i64, condition: Condition) -> Result<User, StoreError> {
        self.core.apply(Change::Delete { id, condition }).await
    }

    async fn names(&self) -> Vec<String> {
        self.core.users(0, 10_000).await.unwrap().into_iter().map(|user| user.name).collect()
    }
}

/// A connection to a server takes a moment.
async fn wait_for(core: &CoreStore) {
    for _ in 0..LOOKS_MAX {
        if core.check().await.is_ok() {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    panic!("the store does not answer");
}

/// With an address that belongs to the name.
fn fields(name: &str) -> Fields {
    Fields { name: name.to_owned(), email: Some(format!("{name}@example.org")) }
}

fn create(name: &str) -> Change {
    Change::Create { fields: fields(name), created_at: CREATED_AT.to_owned(), key: None }
}

/// A creation that can be asked for again, at a time of today.
fn create_once(name: &str, key: &str) -> Change {
    create_once_at(name, key, baiwan_service::clock::now_rfc3339())
}

fn create_once_at(name: &str, key: &str, created_at: String) -> Change {
    Change::Create { fields: fields(name), created_at, key: Some(key_of(key)) }
}

fn key_of(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}
