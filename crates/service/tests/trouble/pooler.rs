//! A PgBouncer between the service and its PostgreSQL.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::postgres::certificates::{Authority, Certificate, Oddity};
use crate::postgres::{Database, Server};
use crate::proxy::{Proxy, through};
use crate::running::{Running, eventually};
use crate::{alone, ask, command_with, create, get};

/// After these, each of the service's connections has been made, used and looked at.
const ATTEMPTS: usize = 64;
/// The program, without which these tests are ignored.
const PGBOUNCER: &str = match option_env!("PGBOUNCER") {
    Some(program) => program,
    None => "pgbouncer",
};

/// One before one database. It ends when it is dropped, and with the thread of its test.
struct Pooler {
    directory: TempDir,
    port: u16,
    /// It demands TLS.
    tls: bool,
    child: Option<Child>,
}

impl Pooler {
    fn before(server: &Server, database: &Database, mode: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let directory = tempfile::Builder::new().prefix("baiwan-pgbouncer-").tempdir_in("/tmp").unwrap();
        let mut pooler = Self { directory, port, tls: false, child: None };
        pooler.start(server, database, mode);
        pooler
    }

    /// From now on it demands TLS, and shows this certificate.
    fn demand_tls(&mut self, server: &Server, database: &Database, mode: &str, certificate: &Certificate) {
        for (from, name) in [(&certificate.certificate, "cert.pem"), (&certificate.key, "key.pem")] {
            let path = self.directory.path().join(name);
            fs::copy(from, &path).unwrap();
            if let Some((uid, gid)) = server.owner() {
                chown(&path, Some(uid), Some(gid)).unwrap();
            }
        }
        self.tls = true;
        self.start(server, database, mode);
    }

    /// Starts it, or again, in that mode.
    fn start(&mut self, server: &Server, database: &Database, mode: &str) {
        self.end();
        let (user, password) = server.credentials();
        let mut settings = format!(
            "[databases]\n{name} = host=127.0.0.1 port={server} dbname={name} user={user} password='{password}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = 20\nunix_socket_dir =\n",
            name = database.name,
            server = server.port(),
            port = self.port,
        );
        if self.tls {
            let folder = self.directory.path().display();
            settings += &format!(
                "client_tls_sslmode = require\nclient_tls_cert_file = {folder}/cert.pem\nclient_tls_key_file = {folder}/key.pem\n"
            );
        }
        let file = self.directory.path().join("settings.ini");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        // It refuses to run as root, as the server does.
        if let Some((uid, gid)) = server.owner() {
            for path in [self.directory.path(), &file] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        command.arg(PGBOUNCER).arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        eventually("the pooler listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // At once: it does not wait for its clients.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// `baiwan serve` with its database behind it, and who counts the connections to it.
    fn command(&self, server: &Server, database: &Database, directory: &TempDir) -> (Command, Proxy) {
        let proxy = Proxy::to(self.port);
        let mut command = command_with(database, directory.path());
        command.env("DATABASE_URL", through(&proxy, server, database));
        (command, proxy)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.end();
    }
}

fn lines_of_errors(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("\"ERROR\"")).collect()
}

#[test]
#[cfg_attr(
    not(all(has_postgres, has_pgbouncer)),
    ignore = "initdb, postgres or pgbouncer is not installed; Debian: apt-get install postgresql pgbouncer"
)]
fn row_113_behind_a_pooler_in_transaction_mode_it_does_not_start_and_names_the_cause_and_the_cure() {
    let _alone = alone();
    let (directory, server) = (tempfile::tempdir().unwrap(), Server::shared());
    for mode in ["transaction", "statement"] {
        let database = server.database();
        let pooler = Pooler::before(server, &database, mode);
        let (mut command, _proxy) = pooler.command(server, &database, &directory);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        let expected =
            ["pooler in transaction mode keeps no prepared statements", "pool_mode to session", "DATABASE_URL"];
        assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'baiwan'";
        assert_eq!(crate::postgres::run(&database.keeper_url, schemas), [["0"]], "nothing was made there");
    }
}

#[test]
#[cfg_attr(
    not(all(has_postgres, has_pgbouncer)),
    ignore = "initdb, postgres or pgbouncer is not installed; Debian: apt-get install postgresql pgbouncer"
)]
fn row_113_a_pooler_in_session_mode_is_as_good_as_none_and_one_that_changes_its_mode_is_named_once() {
    let _alone = alone();
    let (directory, server) = (tempfile::tempdir().unwrap(), Server::shared());
    let database = server.database();
    let mut pooler = Pooler::before(server, &database, "session");
    let (command, proxy) = pooler.command(server, &database, &directory);
    let service = Running::start_with_store(command);
    let ask_often = || {
        std::thread::scope(|scope| {
            let asking = || (0..20).map(|_| get(&service, "/api/users?limit=1")).collect::<Vec<_>>();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(asking)).collect();
            all.into_iter().flat_map(|one| one.join().unwrap()).collect::<Vec<u16>>()
        })
    };
    assert_eq!(create(&service, "Ada").json()["id"], 1);
    assert_eq!(ask_often(), [200; 160]);
    pooler.start(server, &database, "transaction");
    let before = proxy.attempts();
    eventually("nothing is read through it any more", || {
        ask_often() == [503; 160] && proxy.attempts() > before + ATTEMPTS
    });
    assert_eq!(ask(&service, "GET", "/health", "").json()["checks"]["store"], "failed");
    pooler.start(server, &database, "session");
    eventually("it is ready again", || service.is_ready());
    assert_eq!(ask_often(), [200; 160]);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    let errors = lines_of_errors(&log);
    assert!(errors.len() == 1 && errors[0].contains("pool_mode to session"), "{log}");
}

#[test]
#[cfg_attr(
    not(all(has_postgres, has_pgbouncer)),
    ignore = "initdb, postgres or pgbouncer is not installed; Debian: apt-get install postgresql pgbouncer"
)]
fn a_pooler_is_reached_by_tls_and_known_by_an_authority_that_the_system_trusts() {
    let _alone = alone();
    let (directory, server, authority) = (tempfile::tempdir().unwrap(), Server::shared(), Authority::new());
    let database = server.database();
    let mut pooler = Pooler::before(server, &database, "session");
    pooler.demand_tls(server, &database, "session", &authority.certificate("IP:127.0.0.1", Oddity::None));
    let (mut command, proxy) = pooler.command(server, &database, &directory);
    let url = through(&proxy, server, &database);
    let output = command.env("DATABASE_URL", format!("{url}?sslmode=verify-full")).output().unwrap();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), refused.lines().count()), (Some(1), 1), "{refused}");
    assert!(refused.contains("sslrootcert") && refused.contains("DATABASE_URL"), "{refused}");
    command.env("SSL_CERT_FILE", authority.own().certificate);
    let service = Running::start_with_store(command);
    assert_eq!(create(&service, "Ada").json()["id"], 1);
    let secured = "TLS with a certificate of the system's authorities (sslmode=verify-full)";
    assert_eq!(service.ready["database_tls"], secured);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success() && lines_of_errors(&log).is_empty(), "{log}");
}
