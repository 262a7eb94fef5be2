//! The settings, as an operator meets them: the real binary, its environment, its file, its exit code and its lines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use baiwan::settings::TABLE;

/// Every variable that is served, with a wrong value and a piece of what its line says is allowed.
const WRONG: &[(&str, &str, &str)] = &[
    ("CONFIG_FILE", "/none/such.toml", "a file that can be read"),
    ("HOST", "example.org", "an IP address"),
    ("PORT", "65536", "0 to 65535"),
    ("BIND", "0.0.0.0:8080,example.org:80", "\"example.org:80\" is none of them"),
    ("BIND_MODE", "660", "a 0 and three octal digits"),
    ("BIND_OWNER", "www data", "a name such as www-data"),
    ("BIND_GROUP", "-1", "a number from 0"),
    ("WORKERS", "0", "1 to 1024"),
    ("MAX_CONNECTIONS", "many", "a whole number"),
    ("MAX_CONNECTIONS_PER_IP", "0.5", "1 to 4294967295; or off"),
    ("NEW_CONNECTIONS_PER_IP", "10001", "1 to 10000; or off"),
    ("MAX_CONNECTION_AGE", "1d", "500ms, 10s or 2m; or off"),
    ("MAX_CONNECTION_REQUESTS", "-1", "1 to 4294967295; or off"),
    ("RATE_LIMIT", "100/day", "100/s, or 1000/min or 10000/h"),
    ("RATE_LIMIT_BURST", "0", "a whole number from 1"),
    ("RATE_LIMIT_MODE", "off", "enforce or report"),
    ("RATE_LIMIT_EXEMPT", "localhost", "such as 10.0.0.0/8 or 192.0.2.1; or off"),
    ("RATE_LIMIT_IPV6_PREFIX", "16", "32 to 128"),
    ("DATABASE_URL", "mysql://host/db", "sqlite:PATH"),
    ("DATABASE_URL_FILE", "/none/such", "a file that can be read: No such file"),
    ("DATABASE_CONNECTIONS", "1001", "1 to 1000"),
    ("API_TOKEN", "fifteen-letters", "16 to 512 characters"),
    ("API_TOKEN_FILE", "/none/such", "a file that can be read: No such file"),
    ("ADMIN_HOST", "example.org", "127.0.0.1 or ::, or localhost; or off"),
    ("ADMIN_PORT", "tcp://10.0.0.1:9090", "enableServiceLinks: false"),
    ("ADMIN_TOKEN", "fifteen-letters", "16 to 512 characters"),
    ("ADMIN_TOKEN_FILE", "/none/such", "a file that can be read: No such file"),
    ("CORS_ORIGINS", "https://app.example.org/", "ends with a slash"),
    ("SERVER_HEADER", "百万", "visible ASCII"),
    ("RATE_LIMIT_STORE", "http://ada:secret@host", "memory, or a URL such as redis://HOST:6379/0"),
    ("RATE_LIMIT_INSTANCES", "0", "1 to 10000"),
    ("READY_REQUIRES", "database", "off or store"),
    ("LOG_LEVEL", "verbose", "error, warn, info, debug, trace"),
    ("LOG_FORMAT", "xml", "auto, json or text"),
    ("HEAD_LIMIT", "65KiB", "from 256 to 64KiB"),
    ("TARGET_LIMIT", "8K", "a size such as 8KiB"),
    ("FIELDS_LIMIT", "256", "1 to 255"),
    ("TRUSTED_PROXIES", "10.0.0.0/8,proxy.example.org", "\"proxy.example.org\" is none of them"),
    ("CLIENT_IP_HEADER", "X Real IP", "the name of a field"),
    ("PROXY_PROTOCOL", "v2", "on or off"),
    ("HEADER_TIMEOUT", "10", "500ms, 10s or 2m"),
    ("KEEP_ALIVE_TIMEOUT", "-1s", "or off"),
    ("REQUEST_TIMEOUT", "1.5s", "500ms, 10s or 2m"),
    ("WRITE_TIMEOUT", "1d", "500ms, 10s or 2m"),
    ("BODY_TIMEOUT", "1 h", "500ms, 10s or 2m"),
    ("BODY_MIN_RATE", "500B", "bytes a second"),
    ("WRITE_MIN_RATE", "1KiB", "bytes a second"),
    ("HALF_CLOSE", "yes", "on or off"),
    ("OVERLOAD", "on", "auto or off"),
    ("SHUTDOWN_IDLE", "5", "500ms, 10s or 2m"),
    ("SHUTDOWN_DELAY", "25s", "less than SHUTDOWN_TIMEOUT"),
    ("SHUTDOWN_TIMEOUT", "0", "from 1ms to 24h"),
    ("SHUTDOWN_GRACE", "-1s", "or rest"),
    ("ACCESS_LOG", "yes", "on, off, or the path of a file, with a / in it"),
    ("ACCESS_LOG_SAMPLE", "-1", "1 to 1000000000; or off"),
    ("EVENT_LOOP", "kqueue", "auto, epoll or portable"),
    ("FD_TABLES", "per-thread", "shared or per-core"),
    ("TAKEOVER", "on", "off, or the path of a Unix socket: with a / in it, and of at most 107 bytes"),
    ("LIVE_TIMEOUT", "0", "from 1ms to 24h"),
    ("SLOW_POLL", "fast", "500ms, 10s or 2m; or off"),
];

/// The binary with nothing of this test's environment, and with lines for people unless the variables say otherwise.
fn baiwan(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baiwan"))
        .args(arguments)
        .env_clear()
        .env("LOG_FORMAT", "text")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn one_line(output: &Output, exit_code: i32) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    text
}

/// A file of settings, which lasts as long as the directory.
fn settings_file(text: impl AsRef<[u8]>) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("baiwan.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

/// What `check-config` prints when all is right.
fn checked(flags: &[&str], variables: &[(&str, &str)]) -> String {
    let output = baiwan(&[&["check-config"][..], flags].concat(), variables);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// Value and source of a setting in what `check-config` printed.
fn row(table: &str, variable: &str) -> (String, String) {
    let mut rows = table.lines().filter_map(|line| line.strip_prefix(&format!("{variable} ")));
    let row = rows.next().unwrap_or_else(|| panic!("{variable} is not in\n{table}"));
    let (value, rest) = row.trim().split_once("  ").unwrap_or_else(|| panic!("{row:?} has no three columns"));
    let (source, changes_by) = rest.trim().rsplit_once("  ").unwrap_or_else(|| panic!("{row:?} has no three columns"));
    assert!(["reload", "restart"].contains(&changes_by), "{row:?}");
    (value.to_owned(), source.trim().to_owned())
}

fn both(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[test]
fn a_wrong_value_is_one_line_that_names_variable_value_and_what_is_allowed() {
    for &(variable, value, allowed) in WRONG {
        let line = one_line(&baiwan(&["serve"], &[(variable, value)]), 2);
        let shown = match variable {
            "DATABASE_URL" => "mysql:…",
            "API_TOKEN" | "ADMIN_TOKEN" => "(hidden)",
            "RATE_LIMIT_STORE" => "http:…",
            _ => value,
        };
        assert!(line.starts_with(&format!("baiwan: {variable} (or --")), "{line}");
        assert!(line.contains(shown) && line.contains(allowed), "{line}");
    }
}

/// Values that the server itself judges, wrong alone or together: each pair of them with the setting that is refused.
const WRONG_AT_BOTH_DOORS: &[(&str, &[(&str, &str)])] = &[
    ("WORKERS", &[("WORKERS", "+2")]),
    ("WORKERS", &[("WORKERS", "1025")]),
    ("MAX_CONNECTIONS", &[("MAX_CONNECTIONS", "0")]),
    ("MAX_CONNECTIONS", &[("MAX_CONNECTIONS", "100000001")]),
    ("RATE_LIMIT", &[("RATE_LIMIT", "10001")]),
    ("RATE_LIMIT_BURST", &[("RATE_LIMIT", "1/min"), ("RATE_LIMIT_BURST", "61")]),
    ("RATE_LIMIT_EXEMPT", &[("RATE_LIMIT_EXEMPT", "10.0.0.0/33")]),
    ("HEAD_LIMIT", &[("HEAD_LIMIT", "255")]),
    ("TARGET_LIMIT", &[("TARGET_LIMIT", "0")]),
    ("FIELDS_LIMIT", &[("FIELDS_LIMIT", "0")]),
    ("HOST", &[("HOST", "localhost:80")]),
    ("PORT", &[("PORT", "tcp://10.0.0.1:80")]),
    ("BIND", &[("BIND", "unix:@name"), ("PORT", "8080")]),
    ("BIND", &[("BIND", "[::]:80"), ("HOST", "::")]),
    ("BIND_MODE", &[("BIND_MODE", "0660")]),
    ("BIND_OWNER", &[("BIND_OWNER", "0"), ("BIND", "unix:@name,0.0.0.0:8080")]),
    ("HEADER_TIMEOUT", &[("HEADER_TIMEOUT", "25h")]),
    ("BODY_MIN_RATE", &[("BODY_MIN_RATE", "4294967296")]),
    ("SHUTDOWN_IDLE", &[("SHUTDOWN_IDLE", "off")]),
    ("SHUTDOWN_TIMEOUT", &[("SHUTDOWN_TIMEOUT", "off")]),
    ("SHUTDOWN_DELAY", &[("SHUTDOWN_DELAY", "2s"), ("SHUTDOWN_TIMEOUT", "2s")]),
    ("FD_TABLES", &[("FD_TABLES", "per-core"), ("EVENT_LOOP", "portable")]),
    ("TRUSTED_PROXIES", &[("TRUSTED_PROXIES", "10.0.0.0/33")]),
    ("CLIENT_IP_HEADER", &[("CLIENT_IP_HEADER", "X-Real-IP")]),
    ("PROXY_PROTOCOL", &[("PROXY_PROTOCOL", "on")]),
    ("PROXY_PROTOCOL", &[("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", "::1"), ("EVENT_LOOP", "portable")]),
    ("EVENT_LOOP", &[("EVENT_LOOP", "a\nb")]),
];

#[test]
fn a_wrong_value_gets_the_same_sentence_from_an_app_of_ones_own() {
    let alone = WRONG.iter().filter(|(name, ..)| TABLE.iter().any(|setting| setting.row.name == *name));
    let alone: Vec<_> = alone.map(|&(name, value, _)| (name, vec![(name, value)])).collect();
    let others = WRONG_AT_BOTH_DOORS.iter().map(|&(name, variables)| (name, variables.to_vec()));
    assert_eq!(alone.len(), TABLE.len());
    for (name, variables) in alone.into_iter().chain(others) {
        let line = one_line(&baiwan(&["serve"], &variables), 2);
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let error = baiwan::Server::from_variables("", find).unwrap_err().to_string();
        let flag = format!(" (or --{})", name.to_lowercase().replace('_', "-"));
        assert_eq!(line.trim_end(), format!("baiwan: {}", error.replacen(name, &format!("{name}{flag}"), 1)));
    }
}

#[test]
fn what_can_be_off_takes_off_and_its_older_words_and_is_shown_as_off() {
    let can_be_off = [
        "HEADER_TIMEOUT",
        "KEEP_ALIVE_TIMEOUT",
        "BODY_TIMEOUT",
        "BODY_MIN_RATE",
        "WRITE_MIN_RATE",
        "REQUEST_TIMEOUT",
        "WRITE_TIMEOUT",
        "HALF_CLOSE",
        "OVERLOAD",
        "SHUTDOWN_DELAY",
        "ACCESS_LOG",
        "ACCESS_LOG_SAMPLE",
        "CORS_ORIGINS",
        "SERVER_HEADER",
        "READY_REQUIRES",
    ];
    for word in ["off", "none", "0"] {
        let table = checked(&[], &can_be_off.map(|name| (name, word)));
        for name in can_be_off {
            assert_eq!(row(&table, name), both("off", &format!("variable {name}")), "{word}");
        }
    }
}

#[test]
fn tables_that_the_event_loop_cannot_have_are_refused() {
    let line = one_line(&baiwan(&["serve"], &[("FD_TABLES", "per-core"), ("EVENT_LOOP", "portable")]), 2);
    assert_eq!(
        line,
        "baiwan: FD_TABLES (or --fd-tables) is \"per-core\"; allowed is shared, because EVENT_LOOP is portable\n"
    );
}

#[test]
fn a_wrong_flag_gets_the_same_line() {
    let line = one_line(&baiwan(&["serve", "--port", "http"], &[("PORT", "8080")]), 2);
    assert_eq!(line, "baiwan: PORT (or --port) is \"http\"; allowed is a port from 0 to 65535 (0 takes a free one)\n");
}

#[test]
fn a_port_that_kubernetes_injected_is_recognised() {
    let line = one_line(&baiwan(&["serve"], &[("PORT", "tcp://10.0.0.1:80")]), 2);
    assert!(line.contains("PORT") && line.contains("Kubernetes") && line.contains("enableServiceLinks"), "{line}");
}

#[test]
fn no_line_repeats_a_password_or_a_token_wherever_it_was_set() {
    let (url, token) = ("postgres://ada:secret@host:no-port/db", "a secret with spaces");
    let (_directory, file) = settings_file(format!("database_url = '{url}'\napi_token = '{token}'\n"));
    for output in [
        baiwan(&["serve", "--database-url", url, "--api-token", token], &[]),
        baiwan(&["serve"], &[("DATABASE_URL", url), ("API_TOKEN", token)]),
        baiwan(&["serve", "--config-file", &file], &[]),
        baiwan(&["check-config", "--config-file", &file], &[]),
    ] {
        let text = stderr(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 2), "{text}");
        assert!(!text.contains("secret") && output.stdout.is_empty(), "{text}");
    }
    let (_directory, file) = settings_file("port = 80\napi_token = \"secret\nhost = 'localhost'\n");
    let line = one_line(&baiwan(&["serve", "--config-file", &file], &[]), 2);
    assert!(line.contains("TOML, which line 2 is not: ") && !line.contains("secret"), "{line}");
}

#[test]
fn a_flag_wins_over_its_variable() {
    let table = checked(&["--port", "1"], &[("PORT", "2")]);
    assert_eq!(row(&table, "PORT"), both("1", "flag --port"));
}

#[test]
fn a_flag_wins_over_the_file() {
    let (_directory, file) = settings_file("port = 3");
    let table = checked(&["--port", "1", "--config-file", &file], &[]);
    assert_eq!(row(&table, "PORT"), both("1", "flag --port"));
}

#[test]
fn a_variable_wins_over_the_file() {
    let (_directory, file) = settings_file("port = 3");
    let table = checked(&["--config-file", &file], &[("PORT", "2")]);
    assert_eq!(row(&table, "PORT"), both("2", "variable PORT"));
}

#[test]
fn the_file_wins_over_the_default_and_an_empty_variable_is_unset() {
    let (_directory, file) = settings_file("# where\nport = 3\n");
    let table = checked(&[], &[("PORT", ""), ("CONFIG_FILE", &file)]);
    assert_eq!(row(&table, "PORT"), both("3", &format!("{file}:2")));
    assert_eq!(row(&table, "CONFIG_FILE"), both(&file, "variable CONFIG_FILE"));
    assert_eq!(row(&checked(&[], &[]), "PORT"), both("8080", "default"));
}

#[test]
fn a_flag_names_another_file_than_the_variable() {
    let (_directory, file) = settings_file("port = 3");
    let table = checked(&["--config-file", &file], &[("CONFIG_FILE", "/none/such.toml")]);
    assert_eq!(row(&table, "PORT"), both("3", &format!("{file}:1")));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let (_directory, file) = settings_file("log_format = 'xml'\nprot = 80\nbody_min_rate = 1.5\n");
    let variables =
        [("HEADER_TIMEOUT", "10"), ("SHUTDOWN_DELAY", "1m"), ("CONFIG_FILE", file.as_str()), ("LOG_FORMAT", "")];
    for command in ["serve", "check-config"] {
        let output = baiwan(&[command, "--workers", "0"], &variables);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(output.stdout.is_empty());
        let expected = [
            format!("baiwan: \"prot\" in {file}:2 is no setting; the likely one is port"),
            "baiwan: WORKERS (or --workers) is \"0\"; allowed is a whole number from 1 to 1024".to_owned(),
            "baiwan: HEADER_TIMEOUT (or --header-timeout) is \"10\"; allowed is a duration up to 24h such as 500ms, \
             10s or 2m; or off"
                .to_owned(),
            format!(
                "baiwan: body_min_rate in {file}:3 (or BODY_MIN_RATE, --body-min-rate) is of the type float; \
                 allowed is a string or a whole number"
            ),
            format!(
                "baiwan: log_format in {file}:1 (or LOG_FORMAT, --log-format) is \"xml\"; allowed is auto, json or text"
            ),
            "baiwan: SHUTDOWN_DELAY (or --shutdown-delay) is \"1m\"; allowed is less than SHUTDOWN_TIMEOUT, which is \
             25s"
            .to_owned(),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn what_cannot_be_compared_is_not_complained_about() {
    let variables = [("SHUTDOWN_DELAY", "1m"), ("SHUTDOWN_TIMEOUT", "0")];
    assert!(one_line(&baiwan(&["serve"], &variables), 2).contains("SHUTDOWN_TIMEOUT (or --shutdown-timeout) is \"0\""));
    // The file may have had another timeout.
    let variables = [("SHUTDOWN_DELAY", "1m"), ("CONFIG_FILE", "/none/such.toml")];
    assert!(
        one_line(&baiwan(&["serve"], &variables), 2).contains("CONFIG_FILE (or --config-file) is \"/none/such.toml\"")
    );
}

#[test]
fn check_config_shows_every_setting_and_hides_secrets_wherever_they_were_set() {
    let (url, token) = ("postgres://ada:secret-word@host/db", "0123456789abcdef");
    let (_directory, file) = settings_file(format!("database_url = '{url}'\napi_token = '{token}'\n"));
    for (table, sources) in [
        (checked(&["--database-url", url, "--api-token", token], &[]), ["flag --database-url", "flag --api-token"]),
        (checked(&[], &[("DATABASE_URL", url), ("API_TOKEN", token)]), ["variable DATABASE_URL", "variable API_TOKEN"]),
        (checked(&["--config-file", &file], &[]), [format!("{file}:1").as_str(), &format!("{file}:2")]),
    ] {
        assert!(!table.contains("secret-word") && !table.contains(token), "{table}");
        assert_eq!(row(&table, "API_TOKEN"), both("(hidden)", sources[1]));
        let (shown, source) = row(&table, "DATABASE_URL");
        assert!(shown.contains("ada@host") && source == sources[0], "{table}");
        let variables: BTreeSet<&str> = table.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(variables, WRONG.iter().map(|&(variable, ..)| variable).collect());
    }
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let token = "0123456789abcdef";
    let (_directory, secret) = settings_file(format!("{token}\n"));
    let (_directory, config) = settings_file(format!("api_token_file = '{secret}'\n"));
    for (table, source) in [
        (checked(&["--api-token-file", &secret], &[]), "flag --api-token-file"),
        (checked(&[], &[("API_TOKEN_FILE", &secret)]), "variable API_TOKEN_FILE"),
        (checked(&["--config-file", &config], &[]), &*format!("{config}:1")),
    ] {
        assert_eq!(row(&table, "API_TOKEN"), both("(hidden)", &format!("file {secret}")));
        assert_eq!(row(&table, "API_TOKEN_FILE"), both(&secret, source));
        assert!(!table.contains(token), "{table}");
    }
    let (_directory, url) = settings_file("postgres://ada:secret-word@host/db");
    let table = checked(&[], &[("DATABASE_URL_FILE", &url)]);
    let (shown, source) = row(&table, "DATABASE_URL");
    assert!(shown.contains("ada@host") && source == format!("file {url}") && !table.contains("secret-word"), "{table}");
}

#[test]
fn a_secret_is_taken_from_systemds_credentials_where_nothing_else_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = ("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(row(&checked(&[], &[credentials]), "API_TOKEN"), both("not set", "default"));
    std::fs::write(file("api_token"), "0123456789abcdef\n").unwrap();
    std::fs::write(file("DATABASE_URL"), "postgres://ada:secret-word@host/db\n").unwrap();
    let table = checked(&[], &[credentials]);
    assert_eq!(row(&table, "API_TOKEN"), both("(hidden)", &format!("file {}", file("api_token"))));
    assert_eq!(row(&table, "DATABASE_URL").1, format!("file {}", file("DATABASE_URL")));
    assert!(!table.contains("secret-word") && !table.contains("0123456789abcdef"), "{table}");
    let (_directory, config) = settings_file("database_url = 'sqlite:a.db'\n");
    let table = checked(&["--config-file", &config], &[credentials, ("API_TOKEN", "fedcba9876543210")]);
    assert_eq!(row(&table, "API_TOKEN"), both("(hidden)", "variable API_TOKEN"));
    assert_eq!(row(&table, "DATABASE_URL").1, format!("{config}:1"));
    std::fs::write(file("API_TOKEN"), "0123456789abcdef\n").unwrap();
    assert_eq!(
        one_line(&baiwan(&["serve"], &[credentials]), 2),
        format!(
            "baiwan: API_TOKEN in {} is unusable; allowed is one file, and API_TOKEN is there too\n",
            file("api_token")
        )
    );
}

#[test]
fn what_is_wrong_with_a_secrets_file_is_one_line_that_names_both_and_not_the_secret() {
    let (_directory, short) = settings_file("secret\n");
    let (_directory, long) = settings_file("secret".repeat(11_000));
    let (_directory, not_text) = settings_file(b"secret\xff");
    let (_directory, empty) = settings_file("\n");
    let by_file = |path: &str, allowed: &str| {
        format!("baiwan: API_TOKEN_FILE (or --api-token-file) is {path:?}; allowed is {allowed}\n")
    };
    for (path, expected) in [
        (&long, by_file(&long, "a file of at most 64 KiB")),
        (&not_text, by_file(&not_text, "a file of UTF-8 text")),
        (&empty, by_file(&empty, "a file that is not empty")),
    ] {
        assert_eq!(one_line(&baiwan(&["serve"], &[("API_TOKEN_FILE", path)]), 2), expected);
    }
    let line = one_line(&baiwan(&["serve"], &[("API_TOKEN_FILE", &short)]), 2);
    assert!(line.starts_with(&format!("baiwan: API_TOKEN in {short} is (hidden); allowed is 16 to 512")), "{line}");
    let given = [("API_TOKEN_FILE", &*short), ("API_TOKEN", "a-secret-of-letters")];
    let expected = by_file(&short, "this or API_TOKEN, and both are given");
    assert_eq!(one_line(&baiwan(&["serve"], &given), 2), expected);
    let directory = tempfile::tempdir().unwrap();
    let credential = directory.path().join("API_TOKEN");
    std::fs::create_dir(&credential).unwrap();
    let line = one_line(&baiwan(&["serve"], &[("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())]), 2);
    let expected =
        format!("baiwan: API_TOKEN in {} is unusable; allowed is a file that can be read: Is", credential.display());
    assert!(line.starts_with(&expected), "{line}");
}

#[test]
fn check_config_says_what_the_defaults_mean_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().to_str().unwrap();
    let table = checked(&[], &[("STATE_DIRECTORY", state)]);
    assert_eq!(row(&table, "DATABASE_URL"), both(&format!("sqlite:{state}/baiwan.db"), "default"));
    let workers = std::thread::available_parallelism().unwrap().to_string();
    for (variable, value) in [
        ("WORKERS", workers.as_str()),
        ("API_TOKEN", "not set"),
        ("CORS_ORIGINS", "off"),
        ("SHUTDOWN_DELAY", "off"),
        ("SHUTDOWN_GRACE", "1s"),
        ("SERVER_HEADER", "off"),
        ("DATABASE_CONNECTIONS", "20"),
    ] {
        assert_eq!(row(&table, variable), both(value, "default"));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let starts: BTreeSet<Option<usize>> = table.lines().map(|line| line.rfind("  ")).collect();
    assert_eq!(starts.len(), 1, "the columns are aligned: {table}");
}

#[test]
fn check_config_says_which_default_is_that_of_kubernetes() {
    let here = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let source = "default where KUBERNETES_SERVICE_HOST is set";
    for (variables, value, source) in [
        (&[here][..], "5s", source),
        (&[here, ("SHUTDOWN_DELAY", "2s")], "2s", "variable SHUTDOWN_DELAY"),
        (&[here, ("SHUTDOWN_DELAY", "off")], "off", "variable SHUTDOWN_DELAY"),
        (&[here, ("SHUTDOWN_TIMEOUT", "3s")], "off", "default"),
    ] {
        assert_eq!(row(&checked(&[], variables), "SHUTDOWN_DELAY"), both(value, source));
    }
}

#[test]
fn a_file_has_texts_numbers_and_lists() {
    let (_directory, file) = settings_file(
        "workers = 2\nrequest_timeout = \"1m\"\nwrite_timeout = 0\n\
         cors_origins = [\"https://a.example.org\", \"http://localhost:5173\"]\n",
    );
    let table = checked(&["--config-file", &file], &[]);
    for (variable, value, line) in [
        ("WORKERS", "2", 1),
        ("REQUEST_TIMEOUT", "1m", 2),
        ("WRITE_TIMEOUT", "off", 3),
        ("CORS_ORIGINS", "https://a.example.org,http://localhost:5173", 4),
    ] {
        assert_eq!(row(&table, variable), both(value, &format!("{file}:{line}")));
    }
}

#[test]
fn a_file_that_is_none_of_settings_is_one_line() {
    let (directory, broken) = settings_file("port = 80\nhost localhost\n");
    let (_directory, not_text) = settings_file(b"port = 80\n\n# \xff\n");
    let (_directory, twice) = settings_file("port = 80\nport = 81\n");
    let (_directory, large) = settings_file("#".repeat(1024 * 1024 + 1));
    let absent = directory.path().join("absent.toml");
    let directory = directory.path().to_str().unwrap();
    for (path, expected) in [
        (broken.as_str(), "TOML, which line 2 is not: "),
        (&not_text, "TOML, which line 3 is not: "),
        (&twice, "TOML, which line 2 is not: duplicate key"),
        (&large, "a file of at most 1 MiB"),
        (absent.to_str().unwrap(), "a file that can be read: No such file"),
        (directory, "a file that can be read: Is a directory"),
        ("", "a file that can be read: "),
    ] {
        let line = one_line(&baiwan(&["serve", "--config-file", path], &[]), 2);
        let expected = format!("baiwan: CONFIG_FILE (or --config-file) is {path:?}; allowed is {expected}");
        assert!(line.starts_with(&expected), "{line}");
    }
    let (_directory, largest) = settings_file("#".repeat(1024 * 1024));
    checked(&["--config-file", &largest], &[]);
}

#[test]
fn a_file_may_hold_what_serve_needs() {
    let (directory, file) = settings_file("database_url = 'sqlite:/dev/null/baiwan.db'\nport = 0\n");
    let line = one_line(&baiwan(&["serve", "--config-file", &file], &[]), 1);
    assert!(line.contains("/dev/null"), "{line}");
    assert!(Path::new(&file).exists() && std::fs::read_dir(directory.path()).unwrap().count() == 1);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(env!("CARGO_BIN_EXE_baiwan"))
        .env_clear()
        .env("WORKERS", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert!(one_line(&output, 2).contains("WORKERS"));
}

#[test]
fn an_empty_variable_is_unset_and_a_flag_wins() {
    let nowhere = "sqlite:/dev/null/baiwan.db";
    let mut variables: Vec<(&str, &str)> = WRONG.iter().map(|&(variable, ..)| (variable, "")).collect();
    // With every variable empty the settings are right, and the start fails where this test wants it to.
    let line = one_line(&baiwan(&["serve", "--database-url", nowhere], &variables), 1);
    assert!(line.contains("/dev/null"), "{line}");
    variables = vec![("DATABASE_URL", "mysql://host/db")];
    let line = one_line(&baiwan(&["serve", "--database-url", nowhere], &variables), 1);
    assert!(line.contains("/dev/null"), "{line}");
}

#[test]
fn help_lists_exactly_the_variables_that_are_served() {
    let output = baiwan(&["serve", "--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<&str> =
        help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).collect();
    assert_eq!(listed, WRONG.iter().map(|&(variable, ..)| variable).collect());
    assert_eq!(help.matches("[default: ").count(), WRONG.len(), "{help}");
    let defaults =
        "not 0.0.0.0 8080 one 1000000 sqlite:baiwan.db 20 off info auto 10s 75s 1h 500 30s on off 5s 25s shared";
    for default in defaults.split(' ') {
        assert!(help.contains(&format!("[default: {default}")), "{default}");
    }
}

#[test]
fn help_keeps_the_values_of_the_environment_to_itself() {
    let variables = [("DATABASE_URL", "postgres://ada:secret@host/db"), ("API_TOKEN", "a-secret-of-letters")];
    for command in ["serve", "check-config"] {
        let help = String::from_utf8(baiwan(&[command, "--help"], &variables).stdout).unwrap();
        assert!(help.contains("--api-token <TOKEN>") && !help.contains("secret"), "{help}");
        assert!(help.contains("--demo"), "what `serve` takes can be checked: {help}");
    }
}

#[test]
fn check_config_takes_whatever_serve_takes() {
    assert_eq!(checked(&["--demo", "--port", "1"], &[]), checked(&["--port", "1"], &[]));
}

#[test]
fn what_check_config_shows_of_a_database_can_be_given_to_it_again() {
    for url in ["sqlite:a.db", "sqlite:////data/a.db", "postgres://ada@a:1,[::1]:5432/my%20users"] {
        let (shown, _) = row(&checked(&["--database-url", url], &[]), "DATABASE_URL");
        let (again, _) = row(&checked(&["--database-url", &shown], &[]), "DATABASE_URL");
        assert_eq!(again, shown, "{url}");
    }
}

#[test]
fn a_flag_of_serve_without_its_command_says_which_command_was_meant() {
    let expected = "baiwan: --port is a flag of `baiwan serve`; did you mean `baiwan serve --port 1`?\n";
    assert_eq!(one_line(&baiwan(&["--port", "1"], &[]), 2), expected);
    let line = one_line(&baiwan(&["--api-token=a-secret-of-letters", "--demo"], &[]), 2);
    assert!(line.ends_with("did you mean `baiwan serve --api-token=… --demo`?\n"), "{line}");
    let unknown = stderr(&baiwan(&["--prot", "1"], &[]));
    assert!(unknown.starts_with("error: ") && !unknown.contains("did you mean"), "{unknown}");
    assert_eq!(baiwan(&["--version"], &[]).status.code(), Some(0));
}

#[test]
fn why_serve_does_not_run_is_said_in_the_format_of_its_log() {
    let nowhere = ("DATABASE_URL", "sqlite:/dev/null/baiwan.db");
    let (_directory, file) = settings_file("log_format = 'json'\nworkers = 0\n");
    let (_directory, broken) = settings_file("log_format = 'json'\nworkers\n");
    for (variables, exit_code, is_json) in [
        (&[nowhere, ("LOG_FORMAT", "json")][..], 1, true),
        (&[nowhere, ("LOG_FORMAT", "text")], 1, false),
        (&[nowhere, ("LOG_FORMAT", "")], 1, true),
        (&[("WORKERS", "0"), ("LOG_FORMAT", "json")], 2, true),
        (&[("WORKERS", "0"), ("LOG_FORMAT", "")], 2, true),
        (&[("LOG_FORMAT", ""), ("CONFIG_FILE", &file)], 2, true),
        // What the file says of it is not known.
        (&[("LOG_FORMAT", ""), ("CONFIG_FILE", &broken)], 2, false),
        (&[("LOG_FORMAT", "xml")], 2, false),
    ] {
        let line = one_line(&baiwan(&["serve", "--port", "0"], variables), exit_code);
        if is_json {
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            assert_eq!((&said["level"], &said["target"]), (&"ERROR".into(), &"baiwan".into()), "{line}");
            assert!(said["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
            let setting = if exit_code == 1 { "DATABASE_URL" } else { "WORKERS" };
            assert!(said["message"].as_str().unwrap().contains(setting), "{line}");
        } else {
            assert!(line.starts_with("baiwan: "), "{line}");
        }
    }
    let asked = one_line(&baiwan(&["check-config"], &[("WORKERS", "0"), ("LOG_FORMAT", "json")]), 2);
    assert!(asked.starts_with("baiwan: WORKERS"), "who asks is a person: {asked}");
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let output = baiwan(&["serve", "--prot", "80"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--port"), "the likely one is named");
}

#[test]
fn a_database_that_cannot_be_opened_is_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let is_directory = format!("sqlite:{}", directory.path().display());
    let absent = format!("sqlite:{}/absent/baiwan.db", directory.path().display());
    let foreign = directory.path().join("foreign.db");
    std::fs::write(&foreign, "no database at all\n".repeat(100)).unwrap();
    let foreign = format!("sqlite:{}", foreign.display());
    for (url, expected) in [
        (is_directory.as_str(), "is a directory: set DATABASE_URL"),
        (&absent, "does not exist: create it"),
        ("sqlite:/proc/baiwan.db", "cannot be written"),
        (&foreign, "is not an SQLite database or is damaged"),
    ] {
        let line = one_line(&baiwan(&["serve"], &[("DATABASE_URL", url), ("PORT", "0")]), 1);
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn a_relative_database_lies_in_the_first_state_directory() {
    let variables = [("STATE_DIRECTORY", "/dev/null/first:/dev/null/second"), ("PORT", "0")];
    let line = one_line(&baiwan(&["serve"], &variables), 1);
    assert!(line.contains("/dev/null/first ") && !line.contains("second"), "{line}");
}
