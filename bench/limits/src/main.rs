//! The rate limit of `baiwan-limits` beside `governor`'s, whose keys are in a `DashMap`. Prints JSON. `run` beside it starts each
//! part in a process of its own:
//!
//! ```text
//! baiwan-bench-limits time 1000000 60            keys, rounds
//! baiwan-bench-limits memory baiwan 1000000      store, keys
//! baiwan-bench-limits lost 1000000               keys
//! baiwan-bench-limits flood 10000000             keys
//! baiwan-bench-limits count baiwan 20000         store, checks: for callgrind
//! ```

mod flood;
mod memory;
mod stores;
mod time;

use anyhow::{Context, bail};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).context("a number is missing")?.parse::<u32>().context("no number");
    let store = || words.get(1).map_or("", String::as_str);
    let figures = match words.first().map_or("", String::as_str) {
        "time" => time::measure(number(1)?, number(2)?),
        "count" => time::check_only(store(), number(2)?)?,
        "memory" => memory::measure(store(), number(2)?)?,
        "lost" => flood::lost(number(1)?),
        "flood" => flood::honest_clients(number(1)?)?,
        _ => bail!("one of: time, count, memory, lost, flood"),
    };
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!("{figures:#}");
    }
    Ok(())
}
