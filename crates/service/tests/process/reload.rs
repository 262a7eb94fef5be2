//! SIGHUP: what changes in a running service and what does not, and what the operator is told.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::admin_side::with_admin;
use crate::running::{Answer, Client, Running, eventually};

const TOKEN: &str = "0123456789abcdef";
const OTHER_TOKEN: &str = "fedcba9876543210";
const LOOPS: [&str; 2] = ["auto", "portable"];
/// How the last line of each reload begins.
const OUTCOME: &str = "the settings were ";

/// A service that reads a file of settings.
struct Service {
    running: Running,
    directory: tempfile::TempDir,
}

impl Service {
    fn start(file: &str, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let command = with_file(directory.path(), file, variables);
        Self { running: Running::start(command), directory }
    }

    fn lines(&self) -> Vec<Value> {
        self.running.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn outcomes(&self) -> usize {
        self.lines().iter().filter(|line| message(line).starts_with(OUTCOME)).count()
    }

    /// Has it read its settings anew once the file says this; what it says of that.
    fn reload(&self, file: &str) -> Vec<Value> {
        std::fs::write(file_in(self.directory.path()), file).unwrap();
        let (before, outcomes) = (self.lines().len(), self.outcomes());
        self.running.signal(Signal::HUP);
        eventually("the settings were read anew", || self.outcomes() > outcomes);
        self.lines().split_off(before)
    }

    fn metric(&self, name: &str) -> f64 {
        let scrape = String::from_utf8(self.running.admin("/metrics").body).unwrap();
        let line = scrape.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in the scrape")).parse().unwrap()
    }
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join("baiwan.toml")
}

fn with_file(directory: &Path, file: &str, variables: &[(&str, &str)]) -> Command {
    std::fs::write(file_in(directory), file).unwrap();
    let mut command = with_admin(directory);
    command.env("CONFIG_FILE", file_in(directory)).envs(variables.iter().copied());
    command
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap()
}

fn get(client: &mut Client, line: &str) -> Answer {
    client.send(format!("GET /api/users HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n").as_bytes()).unwrap();
    client.answer("GET").unwrap()
}

/// What becomes of a write with this token.
fn write(client: &mut Client, token: &str) -> u16 {
    let fields = format!("host: a\r\nauthorization: Bearer {token}\r\ncontent-length: 0");
    client.send(format!("DELETE /api/users/1 HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).unwrap();
    client.answer("DELETE").unwrap().status
}

#[test]
fn each_class_of_settings_changes_on_connections_that_are_open() {
    for event_loop in LOOPS {
        let service = Service::start("rate_limit = 'off'\n", &[("EVENT_LOOP", event_loop)]);
        let mut client = service.running.connect();
        assert_eq!(get(&mut client, "x: y").status, 200);
        let said = service.reload("rate_limit = '2/h'\nserver_header = 'ours'\n");
        assert_eq!(
            (said.len(), said[0]["changed"].as_str()),
            (1, Some("RATE_LIMIT 2/h (was off), SERVER_HEADER ours (was off)"))
        );
        let answers = [(); 3].map(|()| get(&mut client, "x: y"));
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 429], "{event_loop}");
        assert!(answers[0].head.contains("server: ours\r\n"), "{}", answers[0].head);

        service.reload("rate_limit = '1/h'\ntrusted_proxies = '127.0.0.1'\n");
        for (client_ip, status) in [("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)] {
            assert_eq!(get(&mut client, &format!("x-forwarded-for: {client_ip}")).status, status, "{event_loop}");
        }

        service.reload("rate_limit = 'off'\ncors_origins = ['https://a.org']\ntarget_limit = 12\n");
        let answer = get(&mut client, "origin: https://a.org");
        assert!(answer.head.contains("access-control-allow-origin: https://a.org\r\n"), "{}", answer.head);
        assert!(!answer.head.contains("server: "), "{}", answer.head);
        client.send(b"GET /api/users?limit=1 HTTP/1.1\r\nhost: a\r\norigin: https://a.org\r\n\r\n").unwrap();
        let refused = client.answer("GET").unwrap();
        assert_eq!(refused.status, 414);
        assert!(refused.head.contains("access-control-allow-origin: https://a.org\r\n"), "{}", refused.head);

        service.reload("rate_limit = 'off'\nheader_timeout = '100ms'\n");
        let mut slow = service.running.connect();
        slow.send(b"GET / HTTP/1.1\r\n").unwrap();
        if event_loop == "auto" && !cfg!(baiwan_portable) {
            assert_eq!(slow.answer("GET").unwrap().status, 408);
        }
        assert!(slow.is_closed_by_server(), "{event_loop}");

        let held = [(); 2].map(|()| {
            let mut client = service.running.connect();
            assert_eq!(get(&mut client, "x: y").status, 200);
            client
        });
        service.reload("rate_limit = 'off'\nmax_connections_per_ip = 1\n");
        let mut counted = service.running.connect();
        assert_eq!(get(&mut counted, "x: y").status, 200);
        let mut refused = service.running.connect();
        assert_eq!(refused.answer("GET").unwrap().status, 429, "{event_loop}");
        drop((held, counted));
        assert_eq!(service.metric("baiwan_config_last_reload_successful"), 1.0);
    }
}

#[test]
fn tokens_change_with_their_files_and_are_never_said() {
    for event_loop in LOOPS {
        let directory = tempfile::tempdir().unwrap();
        let [api, admin] = ["api", "admin"].map(|name| directory.path().join(name));
        std::fs::write(&api, TOKEN).unwrap();
        std::fs::write(&admin, TOKEN).unwrap();
        let file = format!("api_token_file = {api:?}\nadmin_token_file = {admin:?}\n");
        let service = Service::start(&file, &[("EVENT_LOOP", event_loop)]);
        let mut client = service.running.connect();
        let ask_admin =
            |token: &str| service.running.ask_admin("/clients", &format!("authorization: Bearer {token}")).status;
        assert_eq!((write(&mut client, TOKEN), write(&mut client, OTHER_TOKEN)), (404, 401));
        assert_eq!((ask_admin(TOKEN), ask_admin(OTHER_TOKEN)), (200, 401));
        std::fs::write(&api, OTHER_TOKEN).unwrap();
        std::fs::write(&admin, OTHER_TOKEN).unwrap();
        let said = service.reload(&file);
        assert_eq!(said.iter().map(|line| &line["changed"]).collect::<Vec<_>>(), ["API_TOKEN, ADMIN_TOKEN"]);
        assert_eq!((write(&mut client, TOKEN), write(&mut client, OTHER_TOKEN)), (401, 404), "{event_loop}");
        assert_eq!((ask_admin(TOKEN), ask_admin(OTHER_TOKEN)), (401, 200));
        let said = service.reload(&format!("admin_token_file = {admin:?}\n"));
        let changed = said[0]["changed"].as_str().unwrap();
        assert!(changed.starts_with("API_TOKEN not set (was (hidden)), API_TOKEN_FILE not set (was "), "{changed}");
        assert_eq!(write(&mut client, "none"), 404, "everyone may write");
        let log = service.running.log();
        assert!(!log.contains(TOKEN) && !log.contains(OTHER_TOKEN), "{log}");
    }
}

// What hyper refuses by itself is not said.
#[cfg(not(baiwan_portable))]
#[test]
fn the_level_of_the_log_changes_only_where_the_setting_does() {
    let service = Service::start("", &[("EVENT_LOOP", "auto")]);
    let refused = || {
        let mut client = service.running.connect();
        client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(client.answer("GET").unwrap().status, 400);
    };
    let said = |service: &Service| service.lines().iter().any(|line| line["level"] == "DEBUG");
    refused();
    assert!(!said(&service));
    service.reload("log_level = 'debug'\n");
    refused();
    eventually("a refusal is said", || said(&service));
}

#[test]
fn row_107_a_wrong_file_is_refused_as_a_whole_with_the_words_of_check_config() {
    for event_loop in LOOPS {
        let service = Service::start("server_header = 'one'\n", &[("EVENT_LOOP", event_loop)]);
        let started = service.metric("baiwan_config_last_reload_success_timestamp_seconds");
        let mut client = service.running.connect();
        let mut header = move |value: &str| {
            let answer = get(&mut client, "x: y");
            assert!(answer.head.contains(&format!("server: {value}\r\n")), "{}", answer.head);
        };
        for wrong in [
            "server_header = 'two'\nrate_limit = 'fast'\nheader_timeout = 10\nprot = 1\n",
            "server_header = 'two'\nshutdown_delay = '1m'\n",
            "server_header = 'two",
            "server_header = 'two'\napi_token_file = '/none/such'\n",
        ] {
            let said = service.reload(wrong);
            let checked = with_file(service.directory.path(), wrong, &[("EVENT_LOOP", event_loop)]);
            let checked = as_check_config(checked);
            let (last, lines) = said.split_last().unwrap();
            assert_eq!(lines.iter().map(message).collect::<Vec<_>>(), checked, "{wrong}");
            assert!(lines.iter().all(|line| line["level"] == "ERROR") && !lines.is_empty(), "{said:?}");
            assert_eq!(
                (message(last), &last["wrong"]),
                ("the settings were refused as a whole: those in force stay", &Value::from(lines.len()))
            );
            header("one");
            assert_eq!(service.metric("baiwan_config_last_reload_successful"), 0.0);
            assert_eq!(service.metric("baiwan_config_last_reload_success_timestamp_seconds"), started);
        }
        service.reload("server_header = 'two'\n");
        header("two");
        assert_eq!(service.metric("baiwan_config_last_reload_successful"), 1.0);
        assert!(service.metric("baiwan_config_last_reload_success_timestamp_seconds") > started);
    }
}

/// What `check-config` says of the settings that a command would serve by.
fn as_check_config(serve: Command) -> Vec<String> {
    let mut command = Command::new(serve.get_program());
    command.env_clear().arg("check-config");
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.env("LOG_FORMAT", "text").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().map(|line| line.strip_prefix("baiwan: ").unwrap().to_owned()).collect()
}

#[test]
fn what_needs_a_restart_and_what_is_overridden_is_named_and_the_rest_changes() {
    let service = Service::start("workers = 1\nheader_timeout = '9s'\n", &[("HEADER_TIMEOUT", "8s")]);
    let messages = |said: &[Value]| said.iter().map(|line| message(line).to_owned()).collect::<Vec<_>>();
    let file = file_in(service.directory.path());
    let said = service.reload("workers = 2\nheader_timeout = '7s'\nserver_header = 'ours'\n");
    let restart = format!("WORKERS is now 2 ({}:1); that needs a restart, and 1 stays in force", file.display());
    assert_eq!(
        messages(&said),
        [
            restart.clone(),
            format!("header_timeout has changed in {}:2, but the variable HEADER_TIMEOUT wins", file.display()),
            "the settings were read anew and are in force".to_owned(),
        ]
    );
    assert_eq!(said[2]["changed"], "SERVER_HEADER ours (was off)");
    let said = service.reload("workers = 2\nheader_timeout = '7s'\nserver_header = 'ours'\n");
    let nothing = "the settings were read anew: none that can change without a restart has changed";
    assert_eq!(messages(&said), [restart, nothing.to_owned()], "what is overridden is said once");
    let said = service.reload("workers = 1\nserver_header = 'ours'\n");
    assert_eq!(messages(&said), [nothing]);
}

#[test]
fn a_storm_of_signals_is_a_few_reloads_and_costs_no_request() {
    const SIGNALS: usize = 500;
    for event_loop in LOOPS {
        let service = Service::start("", &[("EVENT_LOOP", event_loop)]);
        let mut client = service.running.connect();
        std::fs::write(file_in(service.directory.path()), "server_header = 'late'\n").unwrap();
        for number in 0..SIGNALS {
            service.running.signal(Signal::HUP);
            if number % 10 == 0 {
                assert_eq!(get(&mut client, "x: y").status, 200);
            }
        }
        eventually("the last file is in force", || get(&mut client, "x: y").head.contains("server: late\r\n"));
        assert!((1..SIGNALS / 10).contains(&service.outcomes()), "{}", service.outcomes());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_comes_during_the_start_is_obeyed_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(directory.path().join("baiwan.db")).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let command = with_file(directory.path(), "", &[]);
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let starting = scope.spawn(move || Running::start_telling(command, |pid| tell.send(pid).unwrap()));
        let pid: i32 = told.recv().unwrap();
        // SIGHUP is the first bit of the signals that are caught.
        let is_caught = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
            u64::from_str_radix(&caught, 16).unwrap() & 1 == 1
        };
        eventually("SIGHUP is taken", is_caught);
        std::fs::write(file_in(directory.path()), "server_header = 'late'\n").unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
        database.execute_batch("ROLLBACK").unwrap();
        let service = starting.join().unwrap();
        let line = service.line(OUTCOME);
        assert_eq!(line["changed"], "SERVER_HEADER late (was off)");
    });
}

#[test]
fn a_signal_that_comes_during_the_stop_changes_nothing() {
    for event_loop in LOOPS {
        let service = Service::start("", &[("EVENT_LOOP", event_loop)]);
        let mut client = service.running.connect();
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
        client.head().unwrap();
        assert_eq!(client.bytes(11).unwrap(), b"Echo: hello");
        service.running.signal(Signal::TERM);
        service.running.line("stopping");
        std::fs::write(file_in(service.directory.path()), "port = 'wrong'").unwrap();
        service.running.signal(Signal::HUP);
        service.running.line("SIGHUP changes nothing");
        client.send(b"world").unwrap();
        assert_eq!(client.bytes(5).unwrap(), b"world");
        drop(client);
        let (status, log) = service.running.wait();
        assert!(status.success() && !log.contains(OUTCOME), "{log}");
    }
}
