//! TLS to PostgreSQL: what each `sslmode` encrypts and checks, and what is said where that does not succeed.

use baiwan_service::store::{Location, Store};

use crate::stores::postgres::certificates::{Authority, Oddity};
use crate::stores::postgres::{Database, Differences, Server, run};
use crate::stores::{options, settings};
use crate::{create, wait_for};

fn with_tls() -> Server {
    Server::start(Differences { tls: true, ..Differences::default() })
}

fn location(database: &Database, parameters: &str) -> Location {
    settings(&["--database-url", &format!("{}?{parameters}", database.url)]).database
}

/// Whether each of the store's connections is encrypted; all must be alike.
async fn is_encrypted(database: &Database, parameters: &str) -> bool {
    let store =
        Store::open(&location(database, parameters), &options(1)).await.unwrap_or_else(|e| panic!("{parameters}: {e}"));
    let core = store.for_core(0);
    core.open();
    wait_for(&core).await;
    core.apply(create(parameters)).await.unwrap();
    let found = run(
        &database.keeper_url,
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE datname = current_database() AND application_name = 'baiwan'",
    );
    assert_eq!(found.len(), 1, "{parameters}: {found:?}");
    found[0][0] == "t"
}

/// The one line of a refusal.
async fn refusal(database: &Database, parameters: &str) -> String {
    let refused = Store::open(&location(database, parameters), &options(1)).await;
    let line = refused.err().unwrap_or_else(|| panic!("{parameters} is served")).to_string();
    assert!(line.contains("DATABASE_URL") && !line.contains('\n'), "{line}");
    assert!(!line.contains("pass"), "it has a password or a part of it: {line}");
    line
}

#[tokio::test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
async fn each_mode_encrypts_and_checks_what_it_says() {
    let mut server = with_tls();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ca = authority.own().certificate.display().to_string();
    let others = stranger.own().certificate.display().to_string();
    let database = server.database();
    server.show(&authority.certificate("IP:127.0.0.1", Oddity::None));
    assert!(!is_encrypted(&database, "sslmode=disable").await);
    for parameters in [
        "connect_timeout=3",
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=require&channel_binding=require",
        &format!("sslmode=require&sslrootcert={ca}"),
        &format!("sslmode=verify-ca&sslrootcert={ca}"),
        &format!("sslmode=verify-full&sslrootcert={ca}&channel_binding=require"),
        &format!("sslmode=verify-full&sslrootcert={ca}"),
    ] {
        assert!(is_encrypted(&database, parameters).await, "{parameters}");
    }
    for parameters in ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full"] {
        let line = refusal(&database, &format!("{parameters}&sslrootcert={others}")).await;
        assert!(line.contains("no trusted authority has signed its certificate): set sslrootcert=PATH"), "{line}");
    }
    server.show(&authority.certificate("DNS:db.example.org", Oddity::None));
    assert!(is_encrypted(&database, &format!("sslmode=verify-ca&sslrootcert={ca}&application_name=baiwan")).await);
    let line = refusal(&database, &format!("sslmode=verify-full&sslrootcert={ca}")).await;
    assert!(line.contains("db.example.org") && line.contains("have one made that names this server"), "{line}");
    server.show(&authority.certificate("IP:127.0.0.1", Oddity::Expired));
    let line = refusal(&database, &format!("sslmode=verify-ca&sslrootcert={ca}")).await;
    assert!(line.contains("Expired") && line.contains("renew the server's certificate"), "{line}");
    server.show(&authority.own());
    let line = refusal(&database, &format!("sslmode=verify-ca&sslrootcert={ca}")).await;
    assert!(line.contains("is no authority's own"), "{line}");
}

#[tokio::test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
async fn where_tls_is_not_to_be_had_only_prefer_and_disable_go_on() {
    let database = Server::shared().database();
    for parameters in ["sslmode=require", "sslmode=verify-full", "sslmode=require&channel_binding=require"] {
        let line = refusal(&database, parameters).await;
        assert!(line.contains("server does not support TLS): switch TLS on at the server"), "{line}");
    }
    assert!(!is_encrypted(&database, "sslmode=prefer").await);
    let mut server = with_tls();
    let database = server.database();
    server.show(&Authority::new().certificate("IP:127.0.0.1", Oddity::Version1));
    let line = refusal(&database, "sslmode=require").await;
    assert!(line.contains("X.509 version 3"), "{line}");
    assert!(!is_encrypted(&database, "sslmode=prefer").await, "what fails is done without");
}

#[tokio::test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
async fn a_server_that_demands_tls_is_named_as_one() {
    let mut server = with_tls();
    let database = server.database();
    server.demand_tls();
    assert!(is_encrypted(&database, "sslmode=prefer").await);
    let line = refusal(&database, "sslmode=disable").await;
    assert!(line.contains("it may demand TLS: sslmode=require"), "{line}");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_named_before_anybody_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (empty, broken) = (directory.path().join("empty"), directory.path().join("broken"));
    std::fs::write(&empty, "no PEM\n").unwrap();
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (path, expected) in [
        (&directory.path().join("none"), "cannot be read (No such file"),
        (&empty, "is no PEM file of certificates (there is no certificate in it)"),
        (&broken, "is no PEM file of certificates ("),
    ] {
        let url = format!("postgres://ada:pass@192.0.2.1/x?sslmode=verify-full&sslrootcert={}", path.display());
        let location = settings(&["--database-url", &url]).database;
        let looked = Store::look(&location).unwrap_err().to_string();
        assert_eq!(looked, Store::open(&location, &options(1)).await.unwrap_err().to_string());
        assert!(looked.contains(expected) && looked.contains(&path.display().to_string()), "{looked}");
        assert!(looked.contains("DATABASE_URL") && !looked.contains('\n') && !looked.contains("pass@"), "{looked}");
    }
}
