//! The command line. Pure: words in, a run or a refusal out.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Holds a million connections on this machine and says what that took.

usage: bench/million [OPTIONS]

It checks the machine, starts a server, opens the connections and has each answered once, holds them idle, then sends a trickle
of requests over all of them, then one request on each as fast as it goes, and closes. The report ends with what was wanted; the
exit code is 1 where any of it is not met.

  --connections N   how many (1000000; with --recover 50000)
  --server NAME     baiwan (the ready service, `baiwan serve`) or nginx, for comparison
  --processes       several server processes on one port, instead of one process with a file table for each core
  --idle SECONDS    how long nothing is sent (20)
  --hold SECONDS    how long the trickle lasts (120)
  --rate N          requests a second of the trickle, over all connections (2000)
  --recover         instead: kill -9 of the server under load, a restart, and how long it takes until 99 % are back
  --tune            raise the kernel's limits that are too low, instead of only naming them; they stay raised until the next boot
  --output DIR      also write million.md and million.json to DIR; with --recover recover.md and recover.json
  --help            print this
";

/// Which server holds the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Baiwan,
    Nginx,
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub(crate) connections: u64,
    pub(crate) server: Kind,
    pub(crate) processes: bool,
    pub(crate) idle: Duration,
    pub(crate) hold: Duration,
    pub(crate) rate: f64,
    pub(crate) recover: bool,
    pub(crate) tune: bool,
    pub(crate) output: Option<PathBuf>,
}

/// Reads the words after the program's name. None: help was asked for.
pub(crate) fn parse(words: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options {
        connections: 0,
        server: Kind::Baiwan,
        processes: false,
        idle: Duration::from_secs(20),
        hold: Duration::from_secs(120),
        rate: 2_000.0,
        recover: false,
        tune: false,
        output: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--connections" => options.connections = number(word, value()?, 100, 10_000_000)?,
            "--idle" => options.idle = Duration::from_secs(number(word, value()?, 1, 3600)?),
            "--hold" => options.hold = Duration::from_secs(number(word, value()?, 1, 86_400)?),
            "--rate" => options.rate = number(word, value()?, 1, 1_000_000)? as f64,
            "--server" => {
                options.server = match value()?.as_str() {
                    "baiwan" => Kind::Baiwan,
                    "nginx" => Kind::Nginx,
                    other => return Err(format!("--server takes baiwan or nginx, not {other}")),
                }
            }
            "--processes" => options.processes = true,
            "--recover" => options.recover = true,
            "--tune" => options.tune = true,
            "--output" => options.output = Some(PathBuf::from(value()?)),
            other => return Err(format!("unknown option {other}; see --help")),
        }
    }
    if options.connections == 0 {
        options.connections = if options.recover { 50_000 } else { 1_000_000 };
    }
    if options.recover && (options.server == Kind::Nginx || options.processes) {
        return Err("--recover is for the one process of baiwan".to_owned());
    }
    Ok(Some(options))
}

fn number(option: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{option} takes a number from {least} to {most}, not {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_million_is_what_nothing_means() {
        assert_eq!(read("").unwrap().unwrap().connections, 1_000_000);
        assert_eq!(read("--recover").unwrap().unwrap().connections, 50_000);
        assert_eq!(read("--help").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for line in ["--connections many", "--server apache", "--hold", "--fast", "--rate 0"] {
            let message = read(line).unwrap_err();
            assert!(message.contains(line.split(' ').next().unwrap()), "{line}: {message}");
            assert_eq!(message.lines().count(), 1);
        }
        assert!(read("--recover --server nginx").is_err());
    }
}
