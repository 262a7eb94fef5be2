//! Who holds how many connections, from the kernel's own table (`/proc/self/net/tcp`, proc_pid_net(5)): so it costs nothing until
//! somebody asks, and no core does anything for it.
//!
//! The table is that of the network namespace; what counts is what came in at a port of the server. It is text, a hundred and fifty
//! bytes for each connection, so a look has an end: after a time it says what it has seen. The kernel gives it in parts, so one that
//! changes meanwhile may show a connection twice.
//!
//! The invariant: a look is bounded in time and in memory, and says whether it has seen all.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use baiwan_limits::ClientKey;
use tokio::time::Instant;

/// How long a look may take: for some hundred thousand connections.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Lines between two looks at the clock. On a machine that was busy with a million connections, the kernel took milliseconds for a line.
const LINES_PER_LOOK: u64 = 16;
/// Clients that are told apart: 16 MiB.
const CLIENTS_MAX: usize = 256 * 1024;
/// The longest line that the kernel writes has 150 bytes for IPv4, and 215 for IPv6.
const BUFFER_BYTES: usize = 64 * 1024;
/// Both sides may still send (`ESTABLISHED`), and the client may not (`CLOSE_WAIT`); the numbers are those of `tcp_states.h`.
const OPEN_STATES: [&[u8]; 2] = [b"01", b"08"];

/// What one look has seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Held {
    /// Connections of the server.
    pub(super) connections: u64,
    /// Whether these are all.
    pub(super) is_complete: bool,
    /// The clients that hold most, the first of them first.
    pub(super) clients: Vec<(IpAddr, u64)>,
}

/// Looks once: at connections that came in at one of `ports`, by client, of which the first `count` are returned. The files are
/// below `root` (`/`, tests apart).
///
/// # Errors
/// When there is no such table, as on other systems than Linux.
pub(super) fn look(root: &Path, ports: &BTreeSet<u16>, ipv6_prefix: u8, count: usize) -> io::Result<Held> {
    let end = Instant::now() + LOOK_MAX;
    let mut table = HashMap::new();
    let mut held = Held { is_complete: true, ..Held::default() };
    for (name, is_needed) in [("tcp", true), ("tcp6", false)] {
        let file = match File::open(root.join("proc/self/net").join(name)) {
            Ok(file) => BufReader::with_capacity(BUFFER_BYTES, file),
            // A kernel without IPv6 has no such file.
            Err(error) if !is_needed && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        held.is_complete &= read(file, ports, ipv6_prefix, end, &mut table, &mut held.connections)?;
    }
    let mut clients: Vec<_> = table.into_iter().map(|(key, count)| (key.ip(), count)).collect();
    clients.sort_unstable_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then(one.cmp(other)));
    clients.truncate(count);
    held.clients = clients;
    Ok(held)
}

/// Adds what stands in a file. Returns whether that was read to its end, and every client was told apart.
fn read(
    mut file: impl BufRead,
    ports: &BTreeSet<u16>,
    ipv6_prefix: u8,
    end: Instant,
    table: &mut HashMap<ClientKey, u64>,
    connections: &mut u64,
) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut is_complete = true;
    for number in 1_u64.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if number % LINES_PER_LOOK == 0 && Instant::now() >= end {
            return Ok(false);
        }
        let Some(client) = client_of(&line, ports) else { continue };
        *connections += 1;
        let key = ClientKey::new(client, ipv6_prefix);
        if let Some(count) = table.get_mut(&key) {
            *count += 1;
        } else if table.len() < CLIENTS_MAX {
            table.insert(key, 1);
        } else {
            is_complete = false;
        }
    }
    Ok(is_complete)
}

/// The client of a line, if it is an open connection that came in at one of the ports.
fn client_of(line: &[u8], ports: &BTreeSet<u16>) -> Option<IpAddr> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    if !OPEN_STATES.contains(&state) {
        return None;
    }
    let (_, port) = address_of(local)?;
    ports.contains(&port).then(|| address_of(remote)).flatten().map(|(client, _)| client)
}

/// Address and port of `0100007F:1F90`: the address as 32-bit numbers of this machine, the port as a number.
fn address_of(word: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = std::str::from_utf8(word).ok()?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let part = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(part(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&part(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0100007F:1F90 010200C0:C351 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 20 4 30 10 -1
   4: 0100007F:1F90 010200C0:C352 08 00000000:00000000 00:00000000 00000000     0        0 5 1 0 20 4 30 10 -1
   5: 0100007F:1F90 010200C0:C353 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
   6: 0100007F:1F91 010200C0:C354 01 00000000:00000000 00:00000000 00000000     0        0 6 1 0 20 4 30 10 -1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF0000010200C0:C355 01 00000000:00000000
   2: B80D0120000000000000000001000000:1F90 B80D0120010000000000000005000000:C356 01 00000000:00000000
   3: B80D0120000000000000000001000000:1F90 B80D0120010000000000000006000000:C357 01 00000000:00000000
";

    fn write(root: &Path, name: &str, text: &str) {
        let folder = root.join("proc/self/net");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn open_connections_at_the_ports_are_counted_by_client() {
        let root = tempfile::tempdir().unwrap();
        let ports = BTreeSet::from([8080]);
        assert!(look(root.path(), &ports, 64, 20).is_err(), "there is no table");
        write(root.path(), "tcp", TCP);
        let held = look(root.path(), &ports, 64, 20).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(held.clients, [(ip("192.0.2.1"), 2), (ip("127.0.0.1"), 1)]);
        write(root.path(), "tcp6", TCP6);
        let held = look(root.path(), &ports, 64, 2).unwrap();
        assert_eq!((held.connections, held.is_complete), (6, true));
        assert_eq!(held.clients, [(ip("192.0.2.1"), 3), (ip("2001:db8:0:1::"), 2)]);
        let alone = look(root.path(), &ports, 128, 20).unwrap();
        assert_eq!(alone.clients.last(), Some(&(ip("2001:db8:0:1::6"), 1)));
        assert_eq!(look(root.path(), &BTreeSet::from([1]), 64, 20).unwrap().connections, 0);
    }

    #[test]
    fn what_is_no_line_of_a_connection_is_passed_over() {
        let ports = BTreeSet::from([8080]);
        for line in
            ["", "\n", "a b", "0: xx:1F90 yy:1 01", "0: 0100007F:1F90 0100007:C350 01", "0: 0100007F 0100007F 01"]
        {
            assert_eq!(client_of(line.as_bytes(), &ports), None, "{line:?}");
        }
    }

    #[test]
    fn a_look_ends_in_time_and_says_so() {
        let line = TCP.lines().nth(2).unwrap().to_owned() + "\n";
        let text = line.repeat(LINES_PER_LOOK as usize * 2);
        let (mut table, mut connections) = (HashMap::new(), 0);
        let now = Instant::now();
        let complete = read(text.as_bytes(), &BTreeSet::from([8080]), 64, now, &mut table, &mut connections).unwrap();
        assert!(!complete && connections == LINES_PER_LOOK - 1, "{connections}");
    }
}
