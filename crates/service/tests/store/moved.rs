//! Files that are not where they were opened any more: nothing is acknowledged that a later start would not find.

use std::fs::{remove_file, rename};
use std::os::unix::fs::symlink;
use std::path::Path;

use baiwan_service::store::{Location, Options, Store, StoreError};

use crate::stores::{Place, options};
use crate::{Opened, create};

/// What SQLite calls the three files.
const FILES: [&str; 3] = ["a.db", "a.db-wal", "a.db-shm"];

async fn assert_it_is_away(opened: &Opened, name: &str) {
    assert_eq!(opened.create(name).await, Err(StoreError::Unavailable));
    for core in [&opened.core, &opened.other] {
        assert_eq!(core.check().await, Err(StoreError::Unavailable), "it is not well");
    }
    assert_eq!(opened.names().await[0], "kept", "what was open goes on being read");
}

/// Puts a copy of the database, as it is now, beside it.
fn back_up(place: &Place, backup: &Path) {
    place.run(&format!("VACUUM INTO '{}'", backup.display()));
}

#[tokio::test]
async fn row_112_without_one_of_its_files_nothing_is_acknowledged_until_it_is_in_its_place_again() {
    for name in FILES {
        let opened = Opened::at(Place::sqlite()).await;
        let (file, away) = (opened.place.file().with_file_name(name), opened.place.file().with_file_name("away"));
        opened.create("kept").await.unwrap();
        for round in 0..2 {
            rename(&file, &away).unwrap();
            assert_it_is_away(&opened, &format!("lost {round}")).await;
            assert_it_is_away(&opened, &format!("lost again {round}")).await;
            rename(&away, &file).unwrap();
            opened.core.check().await.unwrap();
            opened.create(&format!("kept {round}")).await.unwrap();
        }
        let names = opened.again().await.names().await;
        assert!(["kept", "kept 0", "kept 1"].iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("lost again")), "nothing more was written: {names:?}");
    }
}

#[tokio::test]
async fn row_112_a_log_that_was_removed_takes_nothing_with_it_that_was_acknowledged() {
    let opened = Opened::at(Place::sqlite()).await;
    opened.create("kept").await.unwrap();
    remove_file(opened.place.file().with_file_name("a.db-wal")).unwrap();
    assert_it_is_away(&opened, "perhaps").await;
    // As after a kill, from the file alone.
    let killed = Place::sqlite();
    std::fs::copy(opened.place.file(), killed.file()).unwrap();
    assert_eq!(Opened::at(killed).await.names().await[0], "kept");
}

#[tokio::test]
async fn row_112_a_backup_that_was_moved_over_the_file_is_used_after_a_restart_and_whole() {
    let opened = Opened::at(Place::sqlite()).await;
    let backup = opened.place.file().with_file_name("backup");
    opened.create("kept").await.unwrap();
    back_up(&opened.place, &backup);
    opened.create("after the backup").await.unwrap();
    rename(&backup, opened.place.file()).unwrap();
    assert_it_is_away(&opened, "lost").await;
    // A core that has not read before does not begin with another file.
    assert_eq!(opened.store.for_core(0).users(0, 10).await, Err(StoreError::Unavailable));
    assert_it_is_away(&opened, "lost too").await;
    let again = opened.again().await;
    assert_eq!(again.names().await, ["kept"]);
    again.create("new").await.unwrap();
    assert_eq!(again.place.run("PRAGMA integrity_check"), [["ok"]]);
}

#[tokio::test]
async fn row_112_a_link_that_leads_elsewhere_is_another_file_and_so_is_what_a_directory_of_the_name_holds() {
    let directory = tempfile::tempdir().unwrap();
    for folder in ["first", "second"] {
        std::fs::create_dir(directory.path().join(folder)).unwrap();
    }
    let link = directory.path().join("link");
    let point_at = |folder: &str| {
        symlink(folder, directory.path().join("new")).unwrap();
        rename(directory.path().join("new"), &link).unwrap();
    };
    point_at("second");
    drop(Store::open(&Location::Sqlite(link.join("a.db")), &options(1)).await.unwrap());
    point_at("first");
    let store = Store::open(&Location::Sqlite(link.join("a.db")), &options(1)).await.unwrap();
    let core = store.for_core(0);
    core.apply(create("kept")).await.unwrap();
    point_at("second");
    assert_eq!(core.apply(create("lost")).await, Err(StoreError::Unavailable));
    assert_eq!(core.check().await, Err(StoreError::Unavailable));
    point_at("first");
    core.apply(create("kept too")).await.unwrap();
    rename(directory.path().join("first"), directory.path().join("away")).unwrap();
    assert_eq!(core.apply(create("lost too")).await, Err(StoreError::Unavailable));
    rename(directory.path().join("away"), directory.path().join("first")).unwrap();
    core.apply(create("kept as well")).await.unwrap();
    core.check().await.unwrap();
}

#[tokio::test]
async fn row_112_threads_that_read_go_on_with_what_they_have_open_and_say_that_it_is_not_well() {
    let place = Place::sqlite();
    let store = Store::open(&place.location(), &Options { reads_on_threads: true, ..options(2) }).await.unwrap();
    let core = store.for_core(0);
    core.apply(create("kept")).await.unwrap();
    // Each of the threads, of which there is one for each CPU, has read.
    for _ in 0..std::thread::available_parallelism().unwrap().get() {
        assert_eq!(core.users(0, 10).await.unwrap().len(), 1);
    }
    remove_file(place.file()).unwrap();
    assert_eq!(core.check().await, Err(StoreError::Unavailable));
    assert_eq!(core.apply(create("lost")).await, Err(StoreError::Unavailable));
    assert_eq!(core.users(0, 10).await.unwrap()[0].name, "kept");
}
