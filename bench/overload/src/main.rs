//! Asks a server for up to ten times what it can answer, and measures what it still does.
//!
//! `baiwan-bench-overload serve VARIANT WORK` serves on one core until it is killed, and prints its address, and that of its admin side or `-`.
//! `baiwan-bench-overload load ADDRESS ADMIN CAPACITY SECONDS` is the open loop: phase after phase at a multiple of the capacity, and one
//! line of JSON for each. `bench/overload/run` starts both, each on a core of its own.

mod connection;
mod load;
mod phase;
mod probe;
mod servers;
mod work;

use std::time::Duration;

use anyhow::{Context, bail};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", variant, work] => servers::serve(variant, work).await,
        ["load", address, admin, capacity, seconds] => {
            let address = address.parse().context("the server's address")?;
            let admin = match *admin {
                "-" => None,
                admin => Some(admin.parse().context("the address of its admin side")?),
            };
            let capacity = capacity.parse().context("requests a second")?;
            let seconds = Duration::from_secs(seconds.parse().context("seconds of each phase")?);
            tokio::task::LocalSet::new().run_until(load::run(address, admin, capacity, seconds)).await
        }
        _ => bail!("serve VARIANT WORK, or load ADDRESS ADMIN CAPACITY SECONDS"),
    }
}
