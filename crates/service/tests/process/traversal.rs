//! Paths that lead elsewhere: whatever is written for "one folder up", no answer shows a file, nor a page by another name.

use std::fs;

use crate::running::{Client, Running, command};

/// Where to begin: every route, those of files above all.
const BEGINNINGS: [&str; 8] = ["", "/docs", "/api", "/api/users", "/api/users/1", "/health", "/openapi.json", "/echo"];

/// What means "up", or "nothing", to somebody.
const STEPS: [&str; 22] = [
    "..",
    ".",
    "...",
    "%2e%2e",
    "%2E%2e",
    ".%2e",
    "%252e%252e",
    "..%2f..",
    "..%252f..",
    "..\\..",
    "..%5c..",
    "%00",
    "..%00",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "..;",
    "~root",
    "%2f",
    "",
    "file:",
    "..%ef%bc%8f..",
    "%u002e%u002e",
];

/// What one hopes to find.
const ENDS: [&str; 5] = ["etc/passwd", "secret.txt", "baiwan.db", "openapi.json", "init.js"];

/// The answer to a request whose target is sent as it is. None, if it cost the connection.
fn get(service: &Running, target: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut client: Client = service.connect();
    client.send(&[&b"GET "[..], target, b" HTTP/1.1\r\nhost: test\r\n\r\n"].concat()).unwrap();
    client.answer("GET").ok().map(|answer| (answer.status, answer.body))
}

#[test]
fn row_63_no_path_leads_out_of_the_routes() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("secret.txt"), "the secret of row 63").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("passwd")).unwrap();
    let mut command = command(directory.path());
    command.current_dir(directory.path());
    let service = Running::start(command);
    let created = service.connect().ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap();
    assert_eq!(created.status, 201);
    for beginning in BEGINNINGS {
        for step in STEPS {
            for end in ENDS {
                let once = format!("{beginning}/{step}/{end}");
                let often = format!("{beginning}/{}{end}", format!("{step}/").repeat(12));
                let backslashes = format!("{beginning}\\{step}\\{end}");
                for target in [once, often, backslashes] {
                    assert_leads_nowhere(&service, target.as_bytes());
                }
            }
        }
    }
    // Bytes that no target has, and names of what is there with something behind.
    for target in [
        &b"/docs/\0"[..],
        b"/docs/init.js\0.html",
        b"/docs/init.js%00",
        b"/docs/init.js%00.png",
        b"/docs/init.js/",
        b"/docs//init.js",
        b"//docs/init.js",
        b"/docs/%2finit.js",
        b"/docs%2finit.js",
        b"/docs/init.js%20",
        b"/docs/INIT.JS",
        b"/\xc0\xae\xc0\xae/etc/passwd",
        b"/api/users/../users",
        b"/api/users/%2e%2e/users",
        b"/passwd",
        b"/secret.txt",
        b"/baiwan.db",
        b"file:///etc/passwd",
        b"/etc/passwd",
    ] {
        assert_leads_nowhere(&service, target);
    }
    assert_eq!(get(&service, b"/docs/init.js").unwrap().0, 200, "what is there is shown under its own name");
    assert_eq!(get(&service, b"/api/users/1").unwrap().0, 200);
}

fn assert_leads_nowhere(service: &Running, target: &[u8]) {
    let shown = String::from_utf8_lossy(target);
    let (status, body) = get(service, target).unwrap_or_else(|| panic!("{shown} was not answered"));
    assert!([400, 404].contains(&status), "{shown} was answered with {status}");
    let body = String::from_utf8_lossy(&body);
    for secret in ["the secret of row 63", "root:", "SQLite format", "openapi\":", "SwaggerUI"] {
        assert!(!body.contains(secret), "{shown} shows {secret}: {body}");
    }
}
