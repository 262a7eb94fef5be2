//! A limit line: the least that a loop over `io_uring` can do. Every head gets the same answer, and is not read; see
//! `bench_servers::fixed`. One system call for all that is ready: accepting and receiving are armed once and go on by
//! themselves, received bytes land in buffers that all connections share, and sockets never become descriptors.
//!
//! A connection's slot is given back when neither its receiving nor a send is under way, so no completion finds another's.
#![allow(unsafe_code, reason = "the kernel reads and writes memory that the ring names, and this is no part of Baiwan")]

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use bench_servers::fixed::Exchange;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

const SUBMISSIONS_MAX: u32 = 4096;
const COMPLETIONS_MAX: u32 = 16 * 1024;
/// Slots for connections, if the process may have that number of files.
const CONNECTIONS_MAX: u32 = 65_536;
/// A power of two, as the kernel wants it.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 4096;
/// The kernel's name for the one group of buffers.
const GROUP: u16 = 0;

/// What a completion is about; its upper half, the lower is the slot.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;

/// An entry of the ring of buffers, `struct io_uring_buf`. The first one's `tail` is the ring's.
#[repr(C)]
#[derive(Default)]
struct BufferEntry {
    address: AtomicU64,
    length: AtomicU32,
    buffer: AtomicU16,
    tail: AtomicU16,
}

/// The ring of buffers, which the kernel wants at the begin of a page.
#[repr(C, align(4096))]
struct Entries([BufferEntry; BUFFERS as usize]);

const _: () = assert!(size_of::<BufferEntry>() == 16 && BUFFERS.is_power_of_two());

/// Buffers that the kernel fills.
struct Buffers {
    entries: Box<Entries>,
    memory: Box<[u8]>,
    /// What the kernel may use ends here; it wraps.
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let entries = Box::new(Entries(std::array::from_fn(|_| BufferEntry::default())));
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_BYTES].into_boxed_slice();
        let mut buffers = Self { entries, memory, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give(buffer));
        buffers
    }

    /// The kernel may fill this one again.
    fn give(&mut self, buffer: u16) {
        let entry = &self.entries.0[usize::from(self.tail % BUFFERS)];
        let address = self.memory.as_mut_ptr() as u64 + u64::from(buffer) * BUFFER_BYTES as u64;
        entry.address.store(address, Ordering::Relaxed);
        entry.length.store(BUFFER_BYTES as u32, Ordering::Relaxed);
        entry.buffer.store(buffer, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        self.entries.0[0].tail.store(self.tail, Ordering::Release);
    }

    /// What the kernel wrote to this one.
    fn filled(&self, buffer: u16, count: usize) -> &[u8] {
        let begin = usize::from(buffer) * BUFFER_BYTES;
        assert!(begin + count <= self.memory.len() && count <= BUFFER_BYTES, "the kernel wrote {count} bytes");
        // SAFETY: `begin..begin + count` lies within `memory`, and the kernel leaves the buffer alone until `give`, which
        // needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(begin), count) }
    }
}

#[derive(Default)]
struct Connection {
    exchange: Exchange,
    sending: bool,
    /// Nothing more will be received.
    ended: bool,
}

struct Server {
    ring: IoUring,
    listener: RawFd,
    buffers: Buffers,
    connections: Vec<Connection>,
}

fn main() -> Result<()> {
    if bench_servers::version_asked("io-uring")? {
        return Ok(());
    }
    let listener = bench_servers::listener()?;
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS_MAX).setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    let ring = builder.build(SUBMISSIONS_MAX).context("no io_uring here")?;
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let slots = u32::try_from(files).unwrap_or(u32::MAX).min(CONNECTIONS_MAX);
    ring.submitter().register_files_sparse(slots).context("cannot register slots")?;
    let mut buffers = Buffers::new();
    let entries = std::ptr::from_mut(&mut *buffers.entries) as u64;
    // SAFETY: `entries` is a page-aligned ring of `BUFFERS` entries, each of which names memory of its own; both are on the
    // heap, and the server keeps them until the process ends.
    unsafe { ring.submitter().register_buf_ring_with_flags(entries, BUFFERS, GROUP, 0) }.context("cannot register")?;
    let connections = (0..slots).map(|_| Connection::default()).collect();
    bench_servers::announce(listener.local_addr()?)?;
    Server { ring, listener: listener.as_raw_fd(), buffers, connections }.run()
}

impl Server {
    fn run(&mut self) -> Result<()> {
        self.accept()?;
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                Err(error) => return Err(error).context("cannot wait"),
            }
            while let Some(completion) = self.next() {
                let slot = completion.user_data() as u32;
                match completion.user_data() >> 32 {
                    ACCEPT => self.handle_accepted(&completion)?,
                    RECEIVE => self.handle_received(slot, &completion)?,
                    SEND => self.handle_sent(slot, completion.result())?,
                    CLOSE => ensure!(completion.result() == 0, "a close failed: {}", completion.result()),
                    other => bail!("a completion of nothing: {other}"),
                }
            }
        }
    }

    fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn handle_accepted(&mut self, completion: &cqueue::Entry) -> Result<()> {
        match u32::try_from(completion.result()) {
            Ok(slot) => {
                self.connections[slot as usize] = Connection::default();
                self.receive(slot)?;
            }
            Err(_) => bail!("cannot accept: {}", std::io::Error::from_raw_os_error(-completion.result())),
        }
        if cqueue::more(completion.flags()) { Ok(()) } else { self.accept() }
    }

    fn handle_received(&mut self, slot: u32, completion: &cqueue::Entry) -> Result<()> {
        let connection = &mut self.connections[slot as usize];
        let count = usize::try_from(completion.result()).unwrap_or(0);
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            connection.exchange.handle_received(self.buffers.filled(buffer, count));
            self.buffers.give(buffer);
        }
        let short_of_buffers = completion.result() == -Errno::NOBUFS.raw_os_error();
        if count == 0 && !short_of_buffers {
            connection.ended = true;
        } else if !cqueue::more(completion.flags()) {
            self.receive(slot)?;
        }
        self.go_on(slot)
    }

    fn handle_sent(&mut self, slot: u32, result: i32) -> Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.sending = false;
        match usize::try_from(result) {
            Ok(count) => connection.exchange.handle_sent(count),
            // The peer is gone, which its receiving will notice, too.
            Err(_) => connection.exchange = Exchange::default(),
        }
        self.go_on(slot)
    }

    /// Sends what is owed, or closes what has ended; one send at a time keeps the answers in order.
    fn go_on(&mut self, slot: u32) -> Result<()> {
        let connection = &mut self.connections[slot as usize];
        if connection.sending {
            return Ok(());
        }
        let unsent = connection.exchange.unsent();
        if connection.ended {
            return self.push(opcode::Close::new(Fixed(slot)).build(), CLOSE, slot);
        }
        if unsent.is_empty() {
            return Ok(());
        }
        connection.sending = true;
        let send = opcode::Send::new(Fixed(slot), unsent.as_ptr(), unsent.len() as u32);
        self.push(send.flags(NO_SIGNAL).build(), SEND, slot)
    }

    fn accept(&mut self) -> Result<()> {
        self.push(opcode::AcceptMulti::new(Fd(self.listener)).allocate_file_index(true).build(), ACCEPT, 0)
    }

    fn receive(&mut self, slot: u32) -> Result<()> {
        self.push(opcode::RecvMulti::new(Fixed(slot), GROUP).build(), RECEIVE, slot)
    }

    fn push(&mut self, entry: Entry, about: u64, slot: u32) -> Result<()> {
        let entry = entry.user_data(about << 32 | u64::from(slot));
        if self.ring.submission().is_full() {
            self.ring.submit().context("cannot submit")?;
        }
        // SAFETY: what an entry points at, if anything, is a static answer; buffers and listener live as long as the ring.
        unsafe { self.ring.submission().push(&entry) }.context("the ring is full")
    }
}

/// `MSG_NOSIGNAL`.
const NO_SIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits() as i32;
