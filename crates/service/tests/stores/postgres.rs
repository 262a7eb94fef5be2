//! A PostgreSQL of the tests' own: made from the installed programs, on a free port of 127.0.0.1, gone with this process.
//!
//! ```text
//!   this process ── pipe ──► guardian (sh) ──► postgres ──► its processes
//! ```
//!
//! The guardian starts the server and then reads from the pipe. However this process ends, the pipe ends with it, and the guardian
//! stops the server and removes its directory. Nothing here knows the service; the tests of one binary share one server
//! ([`Server::shared`]) and have a database each. A test that stops or breaks its server starts one of its own.

#[path = "certificates.rs"]
pub(crate) mod certificates;

use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use certificates::{Authority, Certificate, Oddity};

/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// A port that is free when it is looked for may be taken when the server comes.
const PORTS_MAX: usize = 5;
/// The owner of the server. The service has a role without privileges, as it should have anywhere.
const KEEPER: &str = "keeper";
const SERVICE: &str = "service";

/// Starts what follows its first argument, the directory, and says its number. At the end of its input it stops that, gives it
/// five seconds, and removes the directory, unless it was told to `keep` it.
const GUARDIAN: &str = r#"
directory=$1
shift
"$@" </dev/null >>"$directory/log" 2>&1 &
postgres=$!
echo "$postgres"
read -r order
family=$postgres
for stat in /proc/[0-9]*/stat; do
    if { read -r pid name state parent rest <"$stat"; } 2>/dev/null && [ "$parent" = "$postgres" ]; then
        family="$family $pid"
    fi
done
kill -CONT $family
kill -INT "$postgres"
(sleep 5; kill -KILL $family) >/dev/null 2>&1 &
alarm=$!
wait "$postgres"
kill "$alarm"
[ "$order" = keep ] || rm -rf "$directory"
"#;

/// Gives what follows its first three arguments (a folder, a size, user and group as options of `mount`) a small disk there.
const WITH_SMALL_DISK: &str = r#"mount -t tmpfs -o "size=$1,mode=0700,$2" tmpfs "$0" && shift 2 && exec "$@""#;

/// How a server differs from the shared one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Differences {
    /// What was committed is on the disk, as anywhere but in tests.
    pub(crate) fsync: bool,
    /// The tables of [`Server::database`] are on a disk of that many MiB, which only the server and root can reach.
    pub(crate) disk_mib: Option<u32>,
    /// It offers TLS, with a certificate for its address.
    pub(crate) tls: bool,
}

/// A server and its data.
pub(crate) struct Server {
    differences: Differences,
    directory: TempDir,
    owner: Option<Owner>,
    port: u16,
    password: String,
    running: Option<Running>,
    databases: AtomicUsize,
}

/// Whom the programs run as, because PostgreSQL refuses to run as root.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

struct Running {
    guardian: Child,
    postgres: Pid,
}

/// An empty database, for one test.
pub(crate) struct Database {
    pub(crate) name: String,
    /// For the service: its role owns the database and nothing else.
    pub(crate) url: String,
    /// For the test.
    pub(crate) keeper_url: String,
}

impl Server {
    /// The one that the tests of this binary share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Differences::default()))
    }

    /// A new one, which is ready. It ends when it is dropped.
    pub(crate) fn start(differences: Differences) -> Self {
        let owner = Owner::of_servers();
        let directory = tempfile::Builder::new().prefix("baiwan-postgres-").tempdir_in(place(owner)).unwrap();
        if let Some(owner) = owner {
            chown(directory.path(), Some(owner.uid), Some(owner.gid)).unwrap();
        }
        // It has characters that a URL must encode.
        let password = format!("pass:w/rd@% {:x}", RandomState::new().hash_one("password"));
        let databases = AtomicUsize::new(0);
        let mut server = Self { differences, directory, owner, port: 0, password, running: None, databases };
        server.initialise();
        if differences.tls {
            server.install(&Authority::new().certificate("IP:127.0.0.1", Oddity::None));
        }
        let came = (0..PORTS_MAX).any(|_| {
            server.port = free_port();
            server.try_to_start()
        });
        assert!(came, "PostgreSQL does not start: {}", server.log());
        let mut roles = format!("CREATE ROLE {SERVICE} LOGIN PASSWORD '{}';", server.password);
        // The service's tables are in a schema of their own; a test names them as in SQLite.
        let _ = write!(roles, "ALTER ROLE {KEEPER} SET search_path TO baiwan, public;");
        if differences.disk_mib.is_some() {
            let disk = server.disk();
            let _ = write!(roles, "CREATE TABLESPACE small OWNER {SERVICE} LOCATION '{}';", disk.display());
        }
        roles.split_inclusive(';').for_each(|statement| server.keep(statement));
        server
    }

    /// A new database.
    pub(crate) fn database(&self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.make(&name);
        Database { url: self.url(SERVICE, &name), keeper_url: self.url(KEEPER, &name), name }
    }

    /// Makes a database for the service.
    pub(crate) fn make(&self, name: &str) {
        let place = if self.differences.disk_mib.is_some() { " TABLESPACE small" } else { "" };
        self.keep(&format!("CREATE DATABASE {name} OWNER {SERVICE}{place}"));
    }

    /// Runs SQL as the owner, outside of any test's database.
    pub(crate) fn keep(&self, sql: &str) {
        run(&self.url(KEEPER, "postgres"), sql);
    }

    /// Shows another certificate from now on.
    pub(crate) fn show(&mut self, certificate: &Certificate) {
        self.end();
        self.install(certificate);
        self.start_again();
    }

    /// Lets the service's role in with TLS only.
    pub(crate) fn demand_tls(&mut self) {
        self.end();
        let rules = [("hostssl", SERVICE), ("host", KEEPER)];
        let rules = rules.map(|(kind, role)| format!("{kind} all {role} 127.0.0.1/32 scram-sha-256\n"));
        fs::write(self.data().join("pg_hba.conf"), rules.concat()).unwrap();
        self.start_again();
    }

    /// Puts a certificate where the server looks for it when it starts.
    fn install(&self, certificate: &Certificate) {
        for (from, name) in [(&certificate.certificate, "server.crt"), (&certificate.key, "server.key")] {
            let path = self.directory.path().join(name);
            fs::copy(from, &path).unwrap();
            // Others must not read a key.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some(owner) = self.owner {
                chown(&path, Some(owner.uid), Some(owner.gid)).unwrap();
            }
        }
    }

    /// The port of 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As whom the service comes, and with which password.
    pub(crate) fn credentials(&self) -> (&'static str, &str) {
        (SERVICE, &self.password)
    }

    /// Numbers of the user and the group that its programs run as, where this process is root itself.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.owner.map(|owner| (owner.uid, owner.gid))
    }

    /// What the server has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The folder of the small disk. Others than the server see it through [`Self::root`].
    pub(crate) fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// The file systems as the server sees them.
    pub(crate) fn root(&self) -> PathBuf {
        Path::new("/proc").join(self.postgres().as_raw_nonzero().to_string()).join("root")
    }

    /// Sends a signal to all its processes.
    pub(crate) fn signal(&self, signal: Signal) {
        // Stopped first, the server starts no other process meanwhile.
        let postgres = self.postgres();
        kill_process(postgres, Signal::STOP).unwrap();
        for child in children(postgres) {
            // It may have ended in this moment.
            let _ = kill_process(child, signal);
        }
        kill_process(postgres, signal).unwrap();
    }

    /// Ends it in order, and keeps what it has stored.
    pub(crate) fn end(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // Where the pipe has ended already, so has the guardian.
        let _ = running.guardian.stdin.take().unwrap().write_all(b"keep\n");
        running.guardian.wait().unwrap();
    }

    /// Ends all its processes at once, in the middle of whatever they do.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.end();
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) {
        let came = (0..PORTS_MAX).any(|_| self.try_to_start());
        assert!(came, "PostgreSQL does not start again: {}", self.log());
    }

    /// Copies all that it has stored; it must have ended.
    pub(crate) fn copy_data(&self, name: &str) {
        assert!(self.running.is_none(), "its files would not fit together");
        let copied = Command::new("cp").arg("-a").args([self.data(), self.directory.path().join(name)]).status();
        assert!(copied.unwrap().success());
    }

    /// Puts what was copied in the place of what is stored, which is kept under the name of the copy.
    pub(crate) fn exchange_data(&self, name: &str) {
        assert!(self.running.is_none(), "it would go on with its files");
        let (copy, aside) = (self.directory.path().join(name), self.directory.path().join("aside"));
        for (from, to) in [(self.data(), aside.clone()), (copy.clone(), self.data()), (aside, copy)] {
            fs::rename(from, to).unwrap();
        }
    }

    fn postgres(&self) -> Pid {
        self.running.as_ref().expect("it runs").postgres
    }

    fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:{}@127.0.0.1:{}/{database}", encoded(&self.password), self.port)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn initialise(&self) {
        let secret = self.directory.path().join("password");
        fs::write(&secret, &self.password).unwrap();
        if let Some(owner) = self.owner {
            chown(&secret, Some(owner.uid), Some(owner.gid)).unwrap();
        }
        let mut command = self.as_owner(program("initdb"));
        command.args([
            "--username",
            KEEPER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]);
        command.arg("--pwfile").arg(&secret).arg("--pgdata").arg(self.data());
        let output = command.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        if self.differences.disk_mib.is_some() {
            fs::create_dir(self.disk()).unwrap();
        }
    }

    fn as_owner(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).env("LC_ALL", "C");
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// Whether it is there. If not, it has ended: its port was taken, or something else is wrong that its log tells.
    fn try_to_start(&mut self) -> bool {
        let mut guardian = self.guardian().spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guardian.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let postgres = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        self.running = Some(Running { guardian, postgres });
        let url = self.url(KEEPER, "postgres");
        for _ in 0..PATIENCE.as_millis() / LOOK_INTERVAL.as_millis() {
            if answers(&url) {
                return true;
            }
            if !runs(postgres) {
                self.end();
                return false;
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
        panic!("PostgreSQL is not ready after {PATIENCE:?}: {}", self.log());
    }

    fn guardian(&self) -> Command {
        let disk = self.differences.disk_mib.map(|mib| (mib, self.owner.expect("only root may mount a disk")));
        // Who mounts must be root.
        let mut command = if disk.is_some() { Command::new("/bin/sh") } else { self.as_owner("/bin/sh") };
        command.args(["-c", GUARDIAN, "guardian"]).arg(self.directory.path());
        if let Some((mib, owner)) = disk {
            let owned = format!("uid={},gid={}", owner.uid, owner.gid);
            command.args(["unshare", "--mount", "sh", "-c", WITH_SMALL_DISK]).arg(self.disk()).arg(format!("{mib}m"));
            command.args([&*owned, "setpriv", "--clear-groups"]);
            command.args([format!("--reuid={}", owner.uid), format!("--regid={}", owner.gid)]);
        }
        command.arg(program("postgres")).arg("-D").arg(self.data()).arg("-k").arg(self.directory.path());
        let fsync = if self.differences.fsync { "on" } else { "off" };
        let port = self.port.to_string();
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("port", &*port),
            ("fsync", fsync),
            ("max_connections", "200"),
            // The database of whom a line of the log is about.
            ("log_line_prefix", "%d "),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if self.differences.tls {
            for (name, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
                command.arg("-c").arg(format!("{name}={}", self.directory.path().join(file).display()));
            }
            command.args(["-c", "ssl=on"]);
        }
        // A Ctrl-C is for this process, which the guardian survives.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Owner {
    /// None, where this process is not root itself.
    fn of_servers() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let of = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
            Some(Self { uid: numbers.next()?, gid: numbers.next()? })
        };
        Some(of("postgres").or_else(|| of("nobody")).expect("/etc/passwd has postgres or nobody"))
    }
}

/// A directory that the owner can reach.
fn place(owner: Option<Owner>) -> PathBuf {
    let all_may_pass = |path: &Path| {
        path.ancestors().all(|folder| fs::metadata(folder).is_ok_and(|it| it.permissions().mode() & 0o001 != 0))
    };
    let mut places = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()].into_iter();
    let place = places.find(|place| owner.is_none() || all_may_pass(place));
    place.expect("there is a directory for temporary files that all may pass")
}

fn program(name: &str) -> PathBuf {
    // Without it these tests are ignored.
    Path::new(option_env!("POSTGRES_BIN").unwrap_or_default()).join(name)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// As a URL has it (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// What `/proc` says of a process after its name: the state, the parent, and so on.
fn stat(process: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    Some(stat.rsplit(") ").next()?.to_owned())
}

/// One that has ended is a zombie for as long as the guardian does not look.
fn runs(process: Pid) -> bool {
    stat(process).is_some_and(|stat| !stat.starts_with('Z'))
}

fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    });
    processes.filter(|process| stat(*process).is_some_and(|stat| stat.split(' ').nth(1) == Some(&*parent))).collect()
}

/// Runs SQL in a session of its own.
pub(crate) fn run(url: &str, sql: &str) -> Vec<Vec<String>> {
    outside_of_runtimes(|| Session::open(url).run(sql))
}

fn answers(url: &str) -> bool {
    outside_of_runtimes(|| Session::try_open(url).is_ok())
}

/// A session has a runtime, which must not begin or end within another one, as asynchronous tests have.
fn outside_of_runtimes<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// A connection of the test's, for as long as it is held. Not for use within a runtime.
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    pub(crate) fn open(url: &str) -> Self {
        Self::try_open(url).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(url: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, tokio_postgres::connect(url, NoTls));
            let (client, connection) =
                connecting.await.map_err(|late| late.to_string())?.map_err(|error| format!("{error:?}"))?;
            tokio::spawn(connection);
            Ok::<_, String>(client)
        })?;
        Ok(Self { runtime, client })
    }

    /// Runs SQL; the rows of its answers, as text, what is NULL as the empty one.
    pub(crate) fn run(&self, sql: &str) -> Vec<Vec<String>> {
        let answered = self.runtime.block_on(self.client.simple_query(sql));
        let messages = answered.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect()).collect()
    }
}
