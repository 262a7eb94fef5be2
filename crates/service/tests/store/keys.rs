//! A creation with a key happens once, however often it is asked for: on both stores.

use baiwan_service::store::{Change, Condition, Fields, StoreError};
use jiff::{SignedDuration, Timestamp};

use crate::stores::Place;
use crate::{Opened, create_once, create_once_at, fields, key_of};

/// The time so many minutes ago, as the service writes it.
fn ago(minutes: i64) -> String {
    format!("{:.3}", Timestamp::now() - SignedDuration::from_mins(minutes))
}

const DAY_MINUTES: i64 = 24 * 60;

async fn a_repeated_creation_gets_the_first_answer_and_stores_nothing(place: Place) {
    let opened = Opened::at(place).await;
    let first = opened.core.apply(create_once_at("a", "key", ago(60))).await.unwrap();
    for core in [&opened.core, &opened.other, &opened.core] {
        assert_eq!(core.apply(create_once("a", "key")).await.as_ref(), Ok(&first));
    }
    assert_eq!(opened.names().await, ["a"]);
    let second = opened.core.apply(create_once("b", "other-key")).await.unwrap();
    assert_ne!(second.id, first.id);
    let opened = opened.again().await;
    assert_eq!(opened.core.apply(create_once("a", "key")).await, Ok(first), "after a restart as well");
}

async fn a_repeated_creation_gets_the_first_answer_though_the_user_has_changed_since(place: Place) {
    let opened = Opened::at(place).await;
    let first = opened.core.apply(create_once("a", "key")).await.unwrap();
    opened.replace(first.id, "b", Condition::Any).await.unwrap();
    assert_eq!(opened.core.apply(create_once("a", "key")).await.as_ref(), Ok(&first));
    opened.delete(first.id, Condition::Any).await.unwrap();
    assert_eq!(opened.core.apply(create_once("a", "key")).await.as_ref(), Ok(&first));
    assert_eq!(opened.names().await, [""; 0], "and it stays deleted");
    // Its name may have gone to somebody else.
    opened.create("a").await.unwrap();
    assert_eq!(opened.core.apply(create_once("a", "key")).await, Ok(first));
}

async fn a_key_that_comes_with_other_fields_is_refused(place: Place) {
    let opened = Opened::at(place).await;
    let first = opened.core.apply(create_once("a", "key")).await.unwrap();
    let without_address =
        Change::Create { fields: Fields { email: None, ..fields("a") }, created_at: ago(0), key: Some(key_of("key")) };
    for other in [create_once("b", "key"), without_address] {
        assert_eq!(opened.core.apply(other).await, Err(StoreError::KeyReused));
    }
    assert_eq!(opened.names().await, ["a"]);
    assert_eq!(opened.core.apply(create_once("a", "key")).await, Ok(first), "the key is the first one's");
    assert_eq!(opened.core.apply(create_once("c", "KEY")).await.map(|user| user.name), Ok("c".to_owned()));
}

async fn a_creation_that_failed_leaves_no_key(place: Place) {
    let opened = Opened::at(place).await;
    let taken = opened.create("a").await.unwrap();
    for _ in 0..3 {
        assert_eq!(opened.core.apply(create_once("a", "key")).await, Err(StoreError::NameTaken));
    }
    assert_eq!(opened.place.run("SELECT key FROM idempotency_keys"), [[""; 0]; 0]);
    // Another creation may have the key, and so may the same once its name is free.
    let other = opened.core.apply(create_once("b", "key")).await.unwrap();
    assert_eq!(opened.core.apply(create_once("b", "key")).await, Ok(other));
    opened.delete(taken.id, Condition::Any).await.unwrap();
    assert_eq!(opened.core.apply(create_once("a", "another-key")).await.map(|user| user.name), Ok("a".to_owned()));
}

async fn a_key_is_remembered_for_a_day_and_then_forgotten(place: Place) {
    let opened = Opened::at(place).await;
    let young = opened.core.apply(create_once_at("young", "young", ago(DAY_MINUTES - 5))).await.unwrap();
    let old = opened.core.apply(create_once_at("old", "old", ago(DAY_MINUTES + 5))).await.unwrap();
    assert_eq!(opened.core.apply(create_once("young", "young")).await, Ok(young));
    assert_eq!(opened.core.apply(create_once("old", "old")).await, Err(StoreError::NameTaken), "it is a new creation");
    let other = opened.core.apply(create_once("other", "old")).await.unwrap();
    assert!(other.id > old.id, "the key was free for others");
    assert_eq!(opened.core.apply(create_once("other", "old")).await, Ok(other));
}

async fn forgotten_keys_are_removed_a_few_at_a_time(place: Place) {
    const OLD: usize = 20;
    const FEW: usize = 4;
    let opened = Opened::at(place).await;
    let count = || opened.place.run("SELECT count(*) FROM idempotency_keys")[0][0].parse::<usize>().unwrap();
    for n in 0..OLD {
        opened.core.apply(create_once(&format!("old {n}"), &format!("old-{n}"))).await.unwrap();
    }
    opened.place.run("UPDATE idempotency_keys SET created_at = '2020-01-01T00:00:00.000Z'");
    let mut before = count();
    assert_eq!(before, OLD, "nobody has come since");
    for n in 0..OLD {
        opened.core.apply(create_once(&format!("new {n}"), &format!("new-{n}"))).await.unwrap();
        let now = count();
        assert!(now <= before + 1 && now + FEW > before, "{before} keys became {now}");
        before = now;
    }
    assert_eq!(before, OLD, "the old ones are gone and the new ones there");
    assert_eq!(opened.names().await.len(), 2 * OLD, "users stay");
}

on_both_stores![
    a_repeated_creation_gets_the_first_answer_and_stores_nothing,
    a_repeated_creation_gets_the_first_answer_though_the_user_has_changed_since,
    a_key_that_comes_with_other_fields_is_refused,
    a_creation_that_failed_leaves_no_key,
    a_key_is_remembered_for_a_day_and_then_forgotten,
    forgotten_keys_are_removed_a_few_at_a_time,
];
