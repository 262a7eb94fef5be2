//! Users come, change and go: on both stores.

use baiwan_service::store::{Change, Condition, Fields, StoreError, User};

use crate::stores::Place;
use crate::{CREATED_AT, Opened, create, fields};

async fn what_was_acknowledged_is_read_on_every_core(place: Place) {
    let opened = Opened::at(place).await;
    for n in 0..20 {
        let stored = opened.create(&format!("user {n}")).await.unwrap();
        assert_eq!(opened.other.user(stored.id).await, Ok(Some(stored.clone())));
        assert_eq!(opened.core.user(stored.id).await, Ok(Some(stored)));
    }
    let last = opened.core.users(0, 100).await.unwrap().pop().unwrap();
    assert_eq!(opened.other.users(last.id - 1, 100).await, Ok(vec![last]));
    opened.other.check().await.unwrap();
}

async fn a_user_is_stored_as_it_is(place: Place) {
    let opened = Opened::at(place).await;
    let long = "é百\u{1F600}".repeat(60);
    for (name, email) in [
        ("plain", None),
        (" spaces stay ", Some("x@y")),
        ("quotes ' \" \\ % _ $1 ?1 ; --", Some("'@\"")),
        ("NULL", Some("")),
        (&*long, Some(&*long)),
        // Composed and decomposed: two names, byte by byte.
        ("\u{e9}", None),
        ("e\u{301}", None),
    ] {
        let fields = Fields { name: name.to_owned(), email: email.map(ToOwned::to_owned) };
        let change = Change::Create { fields, created_at: CREATED_AT.to_owned(), key: None };
        let stored = opened.core.apply(change).await.unwrap();
        let expected = User {
            id: stored.id,
            name: name.to_owned(),
            email: email.map(ToOwned::to_owned),
            created_at: CREATED_AT.to_owned(),
            version: 1,
        };
        assert_eq!(stored, expected);
        assert_eq!(opened.core.user(stored.id).await, Ok(Some(expected)));
    }
}

async fn a_replacement_keeps_id_and_date_and_counts_versions(place: Place) {
    let opened = Opened::at(place).await;
    let first = opened.create("a").await.unwrap();
    for version in 2..=5 {
        // The same fields are a replacement as well.
        let name = if version % 2 == 0 { "b" } else { "c" };
        let replaced = opened.replace(first.id, name, Condition::Any).await.unwrap();
        let Fields { name, email } = fields(name);
        assert_eq!(replaced, User { name, email, version, ..first.clone() });
        assert_eq!(opened.other.user(first.id).await, Ok(Some(replaced)));
    }
    let same = opened.replace(first.id, "c", Condition::Any).await.unwrap();
    assert_eq!((&*same.name, same.version), ("c", 6));
    assert_eq!(opened.create("a").await.map(|user| user.version), Ok(1), "the first name is free");
}

async fn a_change_is_made_if_its_condition_holds_and_not_otherwise(place: Place) {
    let opened = Opened::at(place).await;
    let user = opened.create("a").await.unwrap();
    let of = |versions: &[i64]| Condition::Versions(versions.to_vec());
    for wrong in [of(&[]), of(&[2]), of(&[0, -1, i64::MAX, i64::MIN])] {
        assert_eq!(opened.replace(user.id, "b", wrong.clone()).await, Err(StoreError::ConditionFailed), "{wrong:?}");
        assert_eq!(opened.delete(user.id, wrong.clone()).await, Err(StoreError::ConditionFailed), "{wrong:?}");
        assert_eq!(opened.core.user(user.id).await, Ok(Some(user.clone())), "nothing was changed");
    }
    let second = opened.replace(user.id, "b", of(&[7, 1])).await.unwrap();
    assert_eq!(opened.replace(user.id, "c", of(&[1])).await, Err(StoreError::ConditionFailed), "that was another one");
    assert_eq!(opened.delete(user.id, of(&[2])).await, Ok(second));
    for condition in [Condition::Any, of(&[2]), of(&[])] {
        assert_eq!(opened.replace(user.id, "d", condition.clone()).await, Err(StoreError::NoSuchUser));
        assert_eq!(opened.delete(user.id, condition).await, Err(StoreError::NoSuchUser));
    }
}

async fn a_name_is_taken_for_as_long_as_its_user_has_it(place: Place) {
    let opened = Opened::at(place).await;
    let ada = opened.create("Ada").await.unwrap();
    let other = opened.create("ada").await.unwrap();
    assert_eq!(opened.create("Ada").await, Err(StoreError::NameTaken));
    assert_eq!(opened.replace(other.id, "Ada", Condition::Any).await, Err(StoreError::NameTaken));
    assert_eq!(opened.core.user(other.id).await, Ok(Some(other.clone())), "nothing was changed");
    opened.delete(ada.id, Condition::Any).await.unwrap();
    let again = opened.replace(other.id, "Ada", Condition::Versions(vec![1])).await.unwrap();
    assert_eq!((&*again.name, again.version), ("Ada", 2));
    assert_eq!(opened.names().await, ["Ada"]);
}

async fn an_id_is_never_given_twice(place: Place) {
    let opened = Opened::at(place).await;
    let mut last = 0;
    for n in 0..5 {
        let user = opened.create(&format!("user {n}")).await.unwrap();
        assert!(user.id > last, "{} after {last}", user.id);
        last = user.id;
        assert_eq!(opened.delete(user.id, Condition::Any).await, Ok(user));
    }
    let opened = opened.again().await;
    assert!(opened.create("after").await.unwrap().id > last, "nor after a restart");
}

async fn a_page_begins_after_its_id_whatever_was_deleted(place: Place) {
    let opened = Opened::at(place).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(opened.create(&format!("user {n}")).await.unwrap().id);
    }
    for id in [ids.remove(29), ids.remove(8), ids.remove(7)] {
        opened.delete(id, Condition::Any).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = opened.core.users(after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        seen.extend(page.iter().map(|user| user.id));
        // The one where the next page begins, and one of those that were shown.
        for id in [after, seen[0]] {
            let _ = opened.delete(id, Condition::Any).await;
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(opened.core.users(ids[26], 10).await, Ok(Vec::new()));
    assert_eq!(opened.core.users(i64::MAX, 10).await, Ok(Vec::new()));
    assert_eq!(opened.core.user(ids[0]).await, Ok(None));
    assert_eq!(opened.core.user(i64::MAX).await, Ok(None));
}

async fn only_changes_that_were_made_are_counted(place: Place) {
    let opened = Opened::at(place).await;
    let user = opened.create("a").await.unwrap();
    opened.replace(user.id, "b", Condition::Any).await.unwrap();
    let _ = opened.create("b").await.unwrap_err();
    let _ = opened.core.apply(create("b")).await.unwrap_err();
    let _ = opened.delete(user.id, Condition::Versions(Vec::new())).await.unwrap_err();
    opened.delete(user.id, Condition::Any).await.unwrap();
    assert_eq!(opened.store.changes(), 3);
}

on_both_stores![
    what_was_acknowledged_is_read_on_every_core,
    a_user_is_stored_as_it_is,
    a_replacement_keeps_id_and_date_and_counts_versions,
    a_change_is_made_if_its_condition_holds_and_not_otherwise,
    a_name_is_taken_for_as_long_as_its_user_has_it,
    an_id_is_never_given_twice,
    a_page_begins_after_its_id_whatever_was_deleted,
    only_changes_that_were_made_are_counted,
];
