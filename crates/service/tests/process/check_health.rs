//! `baiwan check-health` as a process, beside the service and beside others.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::running::{Running, command, eventually, with_settings};

/// Asks with the settings of [`command`], unless these flags or variables say otherwise.
fn asked(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = with_settings(Command::new(env!("CARGO_BIN_EXE_baiwan")), Path::new("/none/such"));
    command.arg("check-health").args(words).envs(variables.iter().copied()).output().unwrap()
}

/// The exit code, and the one line.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (output.status.code(), text.trim_end().to_owned())
}

/// What a peer answers that reads a request to its end.
fn answer(stream: impl std::io::Read + Write, answer: &str) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0);
    }
    stream.get_mut().write_all(answer.as_bytes()).unwrap();
}

#[test]
fn a_service_is_found_by_the_settings_that_it_was_started_with_wherever_it_listens() {
    let directory = tempfile::tempdir().unwrap();
    for (host, asked_host) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")]
    {
        let mut command = command(directory.path());
        command.env("HOST", host);
        let service = Running::start(command);
        let port = service.address.port().to_string();
        let line = format!("healthy: http://{asked_host}:{port}/health/live answers 200");
        assert_eq!(said(&asked(&["--port", &port], &[("HOST", host)])), (Some(0), line.clone()));
        assert_eq!(said(&asked(&[], &[("HOST", host), ("PORT", &port)])), (Some(0), line));
        let ready = format!("http://{asked_host}:{port}/health/ready");
        assert_eq!(said(&asked(&[&ready], &[])), (Some(0), format!("healthy: {ready} answers 200")));
        assert_eq!(said(&asked(&[&ready.replace("health", "nothing")], &[])).0, Some(1));
    }
}

#[test]
fn the_admin_side_is_asked_first_and_the_server_where_it_does_not_answer() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("ADMIN_HOST", "0.0.0.0");
    let admin_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    command.env("ADMIN_PORT", &admin_port);
    let service = Running::start(command);
    let port = service.address.port().to_string();
    let settings = [("ADMIN_HOST", "0.0.0.0"), ("ADMIN_PORT", &*admin_port), ("PORT", &*port)];
    let expected = format!("healthy: http://127.0.0.1:{admin_port}/health/live answers 200");
    assert_eq!(said(&asked(&[], &settings)), (Some(0), expected));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let settings = [("ADMIN_HOST", "127.0.0.1"), ("ADMIN_PORT", &*free), ("PORT", &*port)];
    let expected = format!("healthy: http://127.0.0.1:{port}/health/live answers 200");
    assert_eq!(said(&asked(&[], &settings)), (Some(0), expected));
}

/// As two that were told their ports and nothing else: the second finds the port of the admin side in use, and does without.
#[test]
fn the_health_of_another_service_on_the_default_port_of_the_admin_side_is_not_ones_own() {
    let directory = tempfile::tempdir().unwrap();
    // Whether the first has that port, or another program of this machine, makes no difference.
    let start = |name: &str| {
        let folder = directory.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut command = command(&folder);
        command.env_remove("ADMIN_HOST").env_remove("ADMIN_PORT");
        Running::start(command)
    };
    let ask = |port: &str| said(&asked(&[], &[("ADMIN_HOST", ""), ("ADMIN_PORT", ""), ("PORT", port)]));
    let (first, second) = (start("first"), start("second"));
    let ports = [&first, &second].map(|service| service.address.port().to_string());
    for port in &ports {
        assert_eq!(ask(port), (Some(0), format!("healthy: http://127.0.0.1:{port}/health/live answers 200")));
    }
    drop(second);
    let (code, line) = ask(&ports[1]);
    assert!(code == Some(1) && line.contains("refused"), "{line}");
    assert_eq!(ask(&ports[0]).0, Some(0));
}

// The portable event loop does not speak that protocol.
#[test]
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
fn a_service_that_expects_the_proxy_protocol_from_this_machine_is_asked_in_it() {
    let directory = tempfile::tempdir().unwrap();
    for (proxies, is_trusted) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let mut command = command(directory.path());
        command.env("PROXY_PROTOCOL", "on").env("TRUSTED_PROXIES", proxies);
        let service = Running::start(command);
        let port = service.address.port().to_string();
        let settings = [("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", proxies), ("PORT", &*port)];
        let line = format!("healthy: http://127.0.0.1:{port}/health/live answers 200");
        assert_eq!(said(&asked(&[], &settings)), (Some(0), line), "trusted: {is_trusted}");
    }
}

#[test]
fn a_service_that_is_not_healthy_is_not_there_or_says_nothing_is_exit_code_1() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let unhealthy = std::thread::scope(|scope| {
        scope.spawn(|| {
            answer(listener.accept().unwrap().0, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        });
        said(&asked(&[&url], &[]))
    });
    assert_eq!(unhealthy, (Some(1), format!("unhealthy: {url}/health/live answers 503")));
    let (code, line) = said(&asked(&[&url], &[]));
    assert_eq!(code, Some(1));
    assert_eq!(
        line,
        format!("unhealthy: {url}/health/live does not answer within 2 s"),
        "the kernel accepts, and nobody reads"
    );
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let (code, line) = said(&asked(&["--port", &port], &[]));
    assert!(code == Some(1) && line.starts_with("unhealthy: http://127.0.0.1:"), "{line}");
    assert!(line.contains("refused"), "{line}");
}

#[test]
fn a_service_on_unix_sockets_is_asked_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("baiwan.sock").display().to_string();
    let name = format!("unix:@baiwan-check-health-{}", std::process::id());
    // Abstract names are there on Linux alone.
    let addresses = [format!("unix:{path}"), name];
    for address in addresses.into_iter().take(if cfg!(baiwan_portable) { 1 } else { 2 }) {
        let mut command = command(directory.path());
        command.env_remove("HOST").env_remove("PORT").env("BIND", &address).env("WORKERS", "1");
        let child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
        let _service = Ended(child);
        let settings = [("BIND", &*address), ("HOST", ""), ("PORT", "")];
        eventually("it is healthy", || said(&asked(&[], &settings)).0 == Some(0));
        let line = format!("healthy: {address}/health/live answers 200");
        assert_eq!(said(&asked(&[], &settings)), (Some(0), line.clone()));
        assert_eq!(said(&asked(&[&address], &[])), (Some(0), line));
    }
}

/// A process that ends with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_wrong_with_the_question_is_exit_code_2() {
    let allowed = "http://HOST[:PORT][/PATH]";
    for (words, variables, expected) in [
        (&["localhost:8080"][..], &[][..], allowed),
        (&["https://localhost/"], &[], allowed),
        (&["--prot", "1"], &[], "--prot"),
        (&[], &[("PORT", "many")], "PORT (or --port) is \"many\""),
        (&[], &[("PORT", "0")], "give check-health its URL"),
    ] {
        let output = asked(words, variables);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
