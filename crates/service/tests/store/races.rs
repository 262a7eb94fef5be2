//! What happens at the same time happens as if one after the other: on both stores.

use std::collections::BTreeSet;

use baiwan_service::store::{Change, Condition, StoreError, User};
use tokio::task::JoinSet;

use crate::stores::Place;
use crate::{Opened, create, create_once, fields};

const ROUNDS: usize = 50;

/// Asks for all of them at the same time, in turns on both cores.
async fn at_once(opened: &Opened, changes: impl IntoIterator<Item = Change>) -> Vec<Result<User, StoreError>> {
    let mut asked = JoinSet::new();
    for (n, change) in changes.into_iter().enumerate() {
        let core = if n % 2 == 0 { opened.core.clone() } else { opened.other.clone() };
        asked.spawn(async move { core.apply(change).await });
    }
    asked.join_all().await
}

async fn of_replacements_with_the_same_condition_exactly_one_wins(place: Place) {
    let opened = Opened::at(place).await;
    let mut user = opened.create("user").await.unwrap();
    for round in 0..ROUNDS {
        let replacement = |n: usize| Change::Replace {
            id: user.id,
            fields: fields(&format!("{round} {n}")),
            condition: Condition::Versions(vec![user.version]),
        };
        let outcomes = at_once(&opened, (0..4).map(replacement)).await;
        let lost = outcomes.iter().filter(|outcome| **outcome == Err(StoreError::ConditionFailed)).count();
        let won: Vec<User> = outcomes.into_iter().flatten().collect();
        assert_eq!((won.len(), lost), (1, 3), "round {round}");
        assert_eq!(won[0].version, user.version + 1);
        assert_eq!(opened.core.user(user.id).await.unwrap().as_ref(), Some(&won[0]), "and it is what is stored");
        user = won.into_iter().next().unwrap();
    }
}

/// None is refused because others are asked for; if the machine is too slow for all of them, they are asked for again.
async fn a_thousand_reads_at_the_same_time_are_all_answered(place: Place) {
    const READS: usize = 1_000;
    const TRIES_MAX: usize = 20;
    let opened = Opened::at(place).await;
    let user = opened.create("user").await.unwrap();
    for _ in 0..TRIES_MAX {
        let mut asked = JoinSet::new();
        for _ in 0..READS {
            let (core, id) = (opened.core.clone(), user.id);
            asked.spawn(async move { core.user(id).await });
        }
        let answers = asked.join_all().await;
        assert!(!answers.contains(&Err(StoreError::QueueFull)), "there is room for all to wait");
        if answers.iter().all(|answer| *answer == Ok(Some(user.clone()))) {
            return;
        }
    }
    panic!("{TRIES_MAX} times not all of {READS} reads were answered");
}

async fn of_a_replacement_and_a_deletion_with_the_same_condition_one_wins(place: Place) {
    let opened = Opened::at(place).await;
    for round in 0..ROUNDS {
        let user = opened.create(&format!("user {round}")).await.unwrap();
        let condition = Condition::Versions(vec![1]);
        let replacement =
            Change::Replace { id: user.id, fields: fields(&format!("{round}")), condition: condition.clone() };
        let outcomes = at_once(&opened, [replacement, Change::Delete { id: user.id, condition }]).await;
        let stored = opened.core.user(user.id).await.unwrap();
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {outcomes:?}");
        match stored {
            Some(stored) => {
                assert!(outcomes.contains(&Ok(stored)) && outcomes.contains(&Err(StoreError::ConditionFailed)));
            }
            None => assert!(outcomes.contains(&Ok(user)) && outcomes.contains(&Err(StoreError::NoSuchUser))),
        }
    }
}

async fn replacements_without_a_condition_all_count(place: Place) {
    let opened = Opened::at(place).await;
    let user = opened.create("user").await.unwrap();
    let replacement =
        |n: usize| Change::Replace { id: user.id, fields: fields(&n.to_string()), condition: Condition::Any };
    let outcomes = at_once(&opened, (0..ROUNDS).map(replacement)).await;
    let versions: BTreeSet<i64> = outcomes.into_iter().map(|outcome| outcome.unwrap().version).collect();
    assert_eq!(versions, (2..=ROUNDS as i64 + 1).collect());
}

async fn a_name_that_many_want_goes_to_one(place: Place) {
    let opened = Opened::at(place).await;
    for round in 0..ROUNDS {
        let name = format!("name {round}");
        let outcomes = at_once(&opened, (0..6).map(|_| create(&name))).await;
        let taken = outcomes.iter().filter(|outcome| **outcome == Err(StoreError::NameTaken)).count();
        assert_eq!((outcomes.len(), taken), (6, 5), "round {round}: {outcomes:?}");
    }
    assert_eq!(opened.names().await.len(), ROUNDS);
}

async fn creations_with_one_key_make_one_user_and_get_equal_answers(place: Place) {
    let opened = Opened::at(place).await;
    for round in 0..ROUNDS {
        let name = format!("user {round}");
        let outcomes = at_once(&opened, (0..6).map(|_| create_once(&name, &name.replace(' ', "-")))).await;
        for outcome in &outcomes {
            assert!(outcome.is_ok(), "round {round}: {outcomes:?}");
            assert_eq!(outcome, &outcomes[0], "round {round}");
        }
    }
    assert_eq!(opened.names().await.len(), ROUNDS);
}

async fn of_creations_with_one_key_and_different_fields_one_kind_wins(place: Place) {
    let opened = Opened::at(place).await;
    for round in 0..ROUNDS {
        let name = |n: usize| format!("user {round} {}", n % 2);
        let outcomes = at_once(&opened, (0..6).map(|n| create_once(&name(n), &format!("key-{round}")))).await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(StoreError::KeyReused)).count();
        let made: Vec<&User> = outcomes.iter().flatten().collect();
        assert_eq!((made.len(), refused), (3, 3), "round {round}: {outcomes:?}");
        assert!(made.iter().all(|user| *user == made[0]), "round {round}: {made:?}");
    }
    assert_eq!(opened.names().await.len(), ROUNDS);
}

async fn a_creation_whose_name_is_taken_meanwhile_leaves_no_key(place: Place) {
    let opened = Opened::at(place).await;
    for round in 0..ROUNDS {
        let name = format!("user {round}");
        let key = format!("key-{round}");
        let outcomes = at_once(&opened, [create_once(&name, &key), create(&name), create_once(&name, &key)]).await;
        let ids: BTreeSet<i64> = outcomes.iter().flatten().map(|user| user.id).collect();
        assert_eq!(ids.len(), 1, "one user, whoever it was: {outcomes:?}");
        // If the name went to the one without a key, then the key is free.
        let keys = opened.place.run(&format!("SELECT user_id FROM idempotency_keys WHERE key = '{key}'"));
        let of_key: Vec<i64> = keys.iter().map(|row| row[0].parse().unwrap()).collect();
        assert!(of_key.iter().all(|id| ids.contains(id)), "{of_key:?} of {ids:?}");
        let again = opened.core.apply(create_once(&name, &key)).await;
        assert_eq!(again.is_ok(), !of_key.is_empty(), "{again:?}");
    }
}

on_both_stores![
    of_replacements_with_the_same_condition_exactly_one_wins,
    a_thousand_reads_at_the_same_time_are_all_answered,
    of_a_replacement_and_a_deletion_with_the_same_condition_one_wins,
    replacements_without_a_condition_all_count,
    a_name_that_many_want_goes_to_one,
    creations_with_one_key_make_one_user_and_get_equal_answers,
    of_creations_with_one_key_and_different_fields_one_kind_wins,
    a_creation_whose_name_is_taken_meanwhile_leaves_no_key,
];
