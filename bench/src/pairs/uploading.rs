//! A sitting with uploads: one connection to each side, and one body after the other.

use anyhow::{Context, Result};
use baiwan_load::process;
use bench::proc_files::MachineTime;

use super::rows::{NGINX, Plan};
use super::turns::first;
use crate::clock::{SECOND_NS, now_ns};
use crate::connection::{Connection, Receiver};
use crate::exchange::Exchange;
use crate::figures::{CPU_US, Figures, OTHERS_CORES, REQUESTS_PER_SECOND};
use crate::server::Server;

/// What one send gives to the kernel at the most.
const PART_BYTES: usize = 256 << 10;

/// A server, and what it is sent.
pub(super) struct Upload<'a> {
    server: &'a Server,
    exchange: Exchange,
    connection: Connection,
    receiver: Receiver,
    bytes: u64,
}

impl<'a> Upload<'a> {
    /// Connects.
    pub(super) fn connect(server: &'a Server, name: &str, bytes: u64, path_of_nginx: &str) -> Result<Self> {
        let exchange = match name {
            NGINX => Exchange::upload(path_of_nginx, bytes, "read"),
            _ => Exchange::upload("/count", bytes, &bytes.to_string()),
        };
        let connection = Connection::bound(0)?;
        connection.connect(server.address())?;
        Ok(Self { server, exchange, connection, receiver: Receiver::new(), bytes })
    }

    /// Uploads for a while, at least once.
    fn turn(&mut self, plan: &Plan) -> Result<Figures> {
        self.repeat(plan.warm.as_nanos() as u64)?;
        let before =
            (MachineTime::read()?, self.server.soft_interrupts().read(), self.server.cpu_ns()?, self.own_cpu_ns()?);
        let begin_ns = now_ns();
        let count = self.repeat(plan.timed.as_nanos() as u64)? as f64;
        let wall_ns = now_ns() - begin_ns;
        let soft = self.server.soft_interrupts().read().since(before.1);
        let (server_ns, own_ns) = (self.server.cpu_ns()? - before.2, self.own_cpu_ns()? - before.3);
        let others = MachineTime::read()?.others_cores(before.0, server_ns + own_ns + soft.sum_ns(), wall_ns);
        Ok(Figures::from([
            (CPU_US, (server_ns + soft.server_ns) as f64 / 1000.0 / count),
            (REQUESTS_PER_SECOND, count * SECOND_NS as f64 / wall_ns as f64),
            (OTHERS_CORES, others),
        ]))
    }

    fn own_cpu_ns(&self) -> Result<u64> {
        process::own_cpu_ns(Some(self.server.pid()))
    }

    fn repeat(&mut self, duration_ns: u64) -> Result<u64> {
        let (end_ns, mut count) = (now_ns() + duration_ns, 0);
        while count == 0 || now_ns() < end_ns {
            self.upload().with_context(|| format!("upload {count} of a turn"))?;
            count += 1;
        }
        Ok(count)
    }

    fn upload(&mut self) -> Result<()> {
        static PART: [u8; PART_BYTES] = [b'x'; PART_BYTES];
        self.connection.send_all(self.exchange.request())?;
        let mut left = self.bytes;
        while left > 0 {
            let part = left.min(PART_BYTES as u64);
            self.connection.send_all(&PART[..part as usize])?;
            left -= part;
        }
        self.connection.wait_answer(&self.exchange, &mut self.receiver).map(drop)
    }
}

/// Uploads to both servers in turns. Returns what each pair gave, ours first.
pub(super) fn sit(mut sides: [Upload<'_>; 2], plan: &Plan) -> Result<Vec<[Figures; 2]>> {
    let pairs = (0..plan.pairs).map(|pair| {
        let mut figures = [Figures::new(), Figures::new()];
        for side in [first(pair), 1 - first(pair)] {
            figures[side] = sides[side].turn(plan).context(["Baiwan", "the other"][side])?;
        }
        Ok(figures)
    });
    pairs.collect()
}
