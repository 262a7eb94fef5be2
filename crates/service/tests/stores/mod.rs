//! Where a test's store is: an SQLite file or a PostgreSQL database of its own; and a way to have a promise tested on both.

pub(crate) mod postgres;

use std::ffi::OsString;
use std::path::PathBuf;

use baiwan_service::cli::{self, Command};
use baiwan_service::config::Config;
use baiwan_service::store::{Location, Options};
use tempfile::TempDir;

use postgres::{Database, Server};

/// Has each promise, an `async fn` that takes a [`Place`], tested on both stores: as `sqlite::…` and as `postgres::…`.
macro_rules! on_both_stores {
    ($($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(crate::stores::Place::sqlite()).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test]
                #[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; \
                    Debian: apt-get install postgresql")]
                async fn $promise() {
                    super::$promise(crate::stores::Place::postgres()).await;
                }
            )+
        }
    };
}

/// Where one test's store is.
pub(crate) enum Place {
    Sqlite(TempDir),
    Postgres(Database),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Server::shared().database())
    }

    /// The value of `DATABASE_URL`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("sqlite:{}", self.file().display()),
            Self::Postgres(database) => database.url.clone(),
        }
    }

    pub(crate) fn location(&self) -> Location {
        settings(&["--database-url", &self.url()]).database
    }

    /// The SQLite file.
    pub(crate) fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(directory) => directory.path().join("a.db"),
            Self::Postgres(_) => panic!("there is no file"),
        }
    }

    /// Runs SQL beside the service; the rows of the last answer, as text.
    pub(crate) fn run(&self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Self::Sqlite(_) => run_on_file(&self.file(), sql),
            Self::Postgres(database) => postgres::run(&database.keeper_url, sql),
        }
    }
}

fn run_on_file(file: &std::path::Path, sql: &str) -> Vec<Vec<String>> {
    let connection = rusqlite::Connection::open(file).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        _ => String::new(),
    };
    let rows = statement.query_map([], |row| (0..columns).map(|column| Ok(text(row.get(column)?))).collect());
    rows.unwrap().map(Result::unwrap).collect()
}

/// What `baiwan serve` makes of these flags.
pub(crate) fn settings(flags: &[&str]) -> Config {
    let words = ["baiwan", "serve"].into_iter().chain(flags.iter().copied()).map(OsString::from);
    match cli::parse(words) {
        Ok(Command::Serve(config, _)) => *config,
        _ => panic!("the settings are wrong: {flags:?}"),
    }
}

/// A store for that many cores, one or two. Changes can meet: there are two connections for them in all.
pub(crate) fn options(cores: usize) -> Options {
    Options { cores, connections_max: 4, reads_on_threads: false }
}
