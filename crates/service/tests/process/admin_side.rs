//! The admin side of the service: where it listens, who may see what, and that it answers whatever the service does.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::postgres::Server;
use crate::running::{Answer, Client, Running, command, eventually};

const TOKEN: &str = "0123456789abcdef";

/// The service with an admin side on a free port.
pub(crate) fn with_admin(directory: &Path) -> Command {
    let mut command = command(directory);
    command.env_remove("ADMIN_HOST").env("ADMIN_PORT", "0");
    command
}

impl Running {
    fn admin_address(&self) -> SocketAddr {
        self.ready["admin"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// Asks the admin side on a new connection, with a line of the head; its answer.
    pub(crate) fn ask_admin(&self, path: &str, line: &str) -> Answer {
        ask(self.admin_address(), path, line).unwrap()
    }

    pub(crate) fn admin(&self, path: &str) -> Answer {
        self.ask_admin(path, "x: y")
    }
}

fn ask(address: SocketAddr, path: &str, line: &str) -> std::io::Result<Answer> {
    let mut client = Client::connect(address)?;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{line}\r\n\r\n").as_bytes())?;
    client.answer("GET")
}

#[test]
fn it_answers_and_the_start_says_where() {
    let directory = tempfile::tempdir().unwrap();
    for (variable, value) in [("EVENT_LOOP", "auto"), ("EVENT_LOOP", "portable"), ("READY_REQUIRES", "store")] {
        let mut command = with_admin(directory.path());
        command.env(variable, value);
        let service = Running::start(command);
        assert_eq!(service.ready["admin_token"], "not set: this machine only");
        eventually("the store was checked", || service.admin("/health").json()["checks"]["store"] == "ok");
        let health = service.admin("/health");
        assert_eq!((health.status, &health.json()["status"]), (200, &"healthy".into()));
        for path in ["/health/live", "/health/ready", "/health/startup", "/metrics", "/clients", "/"] {
            assert_eq!(service.admin(path).status, 200, "{path}");
        }
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert!(status.success() && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
        assert!(!directory.path().join("baiwan.db-wal").exists(), "the log was moved into the file");
    }
}

#[test]
fn a_default_port_that_is_in_use_is_a_warning_and_the_service_goes_on() {
    // Should it be in use already, that is as well.
    let _taken = TcpListener::bind("127.0.0.1:9090");
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env_remove("ADMIN_HOST");
    let service = Running::start(command);
    assert_eq!(service.ready["admin"], "off");
    let said = service.said_before.iter().find(|line| line["level"] == "WARN").unwrap();
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1:9090") && message.contains("ADMIN_PORT"), "{message}");
    assert_eq!(service.connect().ask("GET", "/health", "").unwrap().status, 200);
}

#[test]
fn a_port_that_was_asked_for_and_is_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command(directory.path()).env_remove("ADMIN_HOST").env("ADMIN_PORT", &port).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("the admin side cannot listen on 127.0.0.1:") && text.contains(&port), "{text}");
}

#[test]
fn it_can_be_off() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    assert_eq!((&service.ready["admin"], service.ready.get("admin_token")), (&"off".into(), None));
    let threads = std::fs::read_dir(service.in_proc("task")).unwrap();
    let names = threads.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    assert!(names.into_iter().all(|name| name.trim() != "baiwan-admin"));
}

#[test]
fn with_a_token_it_is_demanded_for_all_but_metrics_and_health() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    for host in ["127.0.0.1", "0.0.0.0"] {
        for (variable, value) in [("ADMIN_TOKEN", TOKEN), ("ADMIN_TOKEN_FILE", file.to_str().unwrap())] {
            let mut command = with_admin(directory.path());
            command.env("ADMIN_HOST", host).env(variable, value);
            let service = Running::start(command);
            assert_eq!(service.ready["admin_token"], "demanded");
            let right = format!("authorization: bearer {TOKEN}");
            assert_eq!([service.admin("/clients").status, service.ask_admin("/clients", &right).status], [401, 200]);
            assert_eq!([service.admin("/metrics").status, service.admin("/health/live").status], [200; 2]);
            assert!(!service.ready.to_string().contains(TOKEN), "{}", service.ready);
        }
    }
    let mut command = with_admin(directory.path());
    command.env("ADMIN_HOST", "0.0.0.0");
    let service = Running::start(command);
    assert_eq!(service.ready["admin_token"], "not set: metrics and health only");
    assert_eq!([service.admin("/clients").status, service.admin("/metrics").status], [404, 200]);
}

#[test]
fn the_level_of_the_log_changes_while_the_service_runs() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_admin(directory.path()));
    let put = |level: &str| {
        let mut client = Client::connect(service.admin_address()).unwrap();
        let length = level.len();
        let head = format!("PUT /log-level HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        client.send(format!("{head}{level}").as_bytes()).unwrap();
        client.answer("PUT").unwrap()
    };
    assert_eq!(service.admin("/log-level").body, b"info\n");
    assert_eq!(put("loud=very").status, 400);
    let answer = put("info,baiwan=debug");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"info,baiwan=debug\n"[..]));
    assert_eq!(service.admin("/log-level").body, b"info,baiwan=debug\n");
    let line = service.line("the level of the log was changed");
    assert_eq!((&line["before"], &line["now"]), (&"info".into(), &"info,baiwan=debug".into()), "{line}");
}

#[test]
fn probes_are_answered_while_every_connection_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_admin(directory.path());
    command.env("MAX_CONNECTIONS", "2");
    let service = Running::start(command);
    let mut held: Vec<Client> = (0..2).map(|_| service.connect()).collect();
    for client in &mut held {
        assert_eq!(client.ask("GET", "/health/live", "").unwrap().status, 200);
    }
    assert_eq!(service.admin("/health/ready").status, 503);
    for path in ["/health/live", "/health", "/metrics", "/clients"] {
        assert_eq!(service.admin(path).status, 200, "{path}");
    }
    drop(held);
    eventually("it has room again", || service.admin("/health/ready").status == 200);
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_fails_is_named_and_the_log_says_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_admin(directory.path()));
    eventually("the store was checked", || service.admin("/health").json()["checks"]["store"] == "ok");
    let (file, away) = (directory.path().join("baiwan.db"), directory.path().join("away.db"));
    std::fs::rename(&file, &away).unwrap();
    eventually("the check fails", || service.admin("/health").status == 503);
    assert_eq!(service.admin("/health").json()["checks"]["store"], "failed");
    assert_eq!(service.admin("/health/ready").status, 200, "it is not required");
    std::fs::rename(&away, &file).unwrap();
    eventually("it is back", || service.admin("/health").status == 200);
    service.line("a health check succeeds again");
    let log = service.log();
    assert_eq!(log.matches("a health check fails").count(), 1, "{log}");
}

#[test]
fn metrics_tell_of_the_store_and_the_logs_and_the_dashboard_of_what_failed() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_admin(directory.path());
    command.env("ACCESS_LOG", directory.path().join("access.log"));
    let service = Running::start(command);
    tells_of_its_store(&service);
    let has =
        |line: &str| String::from_utf8(service.admin("/metrics").body).unwrap().lines().any(|found| found == line);
    for line in [
        r#"baiwan_log_lines_dropped_total{log="main"} 0"#,
        r#"baiwan_log_lines_dropped_total{log="access"} 0"#,
        "baiwan_store_up 1",
    ] {
        assert!(has(line), "{line}");
    }
    let (file, away) = (directory.path().join("baiwan.db"), directory.path().join("away.db"));
    std::fs::rename(&file, &away).unwrap();
    assert_eq!(service.connect().ask("POST", "/api/users", r#"{"name":"Eve"}"#).unwrap().status, 503);
    eventually("it is not up", || has("baiwan_store_up 0"));
    assert!(has(r#"baiwan_store_errors_total{reason="unavailable"} 1"#));
    let data = || service.admin("/dashboard/data").json();
    eventually("the dashboard shows it", || data()["checks"][0]["is_up"] == false && data()["errors"][0].is_object());
    let data = data();
    let error = &data["errors"][0];
    assert_eq!((&error["route"], &error["status"]), (&"/api/users".into(), &503.into()), "{error}");
    assert!(error["request_id"].as_str().is_some_and(|id| id.len() >= 16), "{error}");
    std::fs::rename(&away, &file).unwrap();
    eventually("it is up", || has("baiwan_store_up 1"));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn metrics_tell_of_postgresql_too() {
    let database = Server::shared().database();
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_admin(directory.path());
    command.env("DATABASE_URL", &database.url);
    tells_of_its_store(&Running::start_with_store(command));
}

/// One change and one read are counted with how long they took.
fn tells_of_its_store(service: &Running) {
    let mut client = service.connect();
    assert_eq!(client.ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap().status, 201);
    assert_eq!(client.ask("GET", "/api/users/1", "").unwrap().status, 200);
    assert_eq!(client.ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap().status, 409);
    let text = String::from_utf8(service.admin("/metrics").body).unwrap();
    for line in [
        r#"baiwan_store_wait_seconds_count{operation="change"} 2"#,
        r#"baiwan_store_wait_seconds_count{operation="read"} 1"#,
        r#"baiwan_store_errors_total{reason="unavailable"} 0"#,
        r#"baiwan_store_errors_total{reason="queue-full"} 0"#,
        "baiwan_store_queue_length 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn it_goes_on_while_the_service_drains() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_admin(directory.path()));
    let mut client = service.connect();
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    client.head().unwrap();
    client.bytes(11).unwrap();
    service.signal(Signal::TERM);
    eventually("it is not ready", || service.admin("/health/ready").status == 503);
    assert_eq!([service.admin("/health/live").status, service.admin("/metrics").status], [200; 2]);
    let address = service.admin_address();
    client.send(b"world").unwrap();
    assert_eq!(client.bytes(5).unwrap(), b"world");
    drop(client);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    assert!(ask(address, "/health", "x: y").is_err());
}

/// Whoever watches the cores looks at what they say of themselves: none of them wakes up for that.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn nobody_wakes_a_core_that_is_idle() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_admin(directory.path()));
    let woken = |name: &str| -> u64 {
        let count = |task: std::path::PathBuf| -> Option<u64> {
            let is_it = std::fs::read_to_string(task.join("comm")).ok()?.trim().starts_with(name);
            let status = std::fs::read_to_string(task.join("status")).ok().filter(|_| is_it)?;
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
        };
        let tasks = std::fs::read_dir(service.in_proc("task")).unwrap();
        tasks.filter_map(|task| count(task.unwrap().path())).sum()
    };
    // What the start has left to do may still be going on. A check of the store comes every ten looks, so it is among these.
    eventually("there are fourteen looks in which no core wakes up", || {
        let (looks, cores) = (woken("baiwan-turns"), woken("baiwan-core-"));
        eventually("it looks", || woken("baiwan-turns") >= looks + 14);
        woken("baiwan-core-") == cores
    });
}

/// The listener of the admin side would stay open in the tables of the cores, had it been in one when they parted.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn with_a_table_for_each_core_it_is_in_its_own_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_admin(directory.path());
    command.env("FD_TABLES", "per-core").env("WORKERS", "2");
    let service = Running::start(command);
    eventually("the store was checked", || service.admin("/health").json()["checks"]["store"] == "ok");
    assert_eq!(service.admin("/health/ready").status, 200);
    let port = format!(":{:04X} ", service.admin_address().port());
    let table = service.proc_file("net/tcp");
    let words = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening =
        words.filter(|words| words.len() > 9 && format!("{} ", words[1]).ends_with(&port) && words[3] == "0A");
    let inode = listening.map(|words| format!("socket:[{}]", words[9])).next().unwrap();
    let threads = service.files_of_threads();
    let has = |name: &str| threads.iter().any(|(thread, files)| thread == name && files.contains(&inode));
    assert_eq!(
        [has("baiwan-admin"), has("baiwan-core-0"), has("baiwan-core-1")],
        [true, false, false],
        "{inode} {threads:?}"
    );
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success() && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
}
