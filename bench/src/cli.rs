//! The command line. Pure: words in, a command out.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::pairs;
use crate::peers::README_SERVERS;
use crate::rows::{Plan, README, ROWS, Rounds, Row};

pub(crate) const HELP: &str = "\
Measures Baiwan beside other servers, in turns, and prints a report.

usage: bench/run [OPTIONS] [ROW...]

Without ROW and --servers, every row is measured for every server that is here, and the report is also written to
bench/RESULTS.md, bench/results.json and bench/plots: after each row, so that a run that is cut leaves what it has.

  --readme         only the rows and servers that the README quotes, in about 20 minutes; writes to bench/readme, with the
                   README's table
  --pairs          instead: ratios that may be quoted, Baiwan beside one other at a time in many short turns, in about 12 minutes;
                   has rows of its own (--pairs --list), writes to bench/pairs, and knows only --quick, --output and --no-install
  --quick          a short pass over few servers and connections that shows that everything works; writes nothing
  --servers NAMES  only these servers, with commas between them
  --rounds N       turns of each server in each row (3; get-small and get-large: 5; stop: 20; readme: 5, memory 2)
  --seconds N      length of the timed part (3; readme: 1.5); wrk runs ten times as long
  --patience N     seconds that may be spent waiting for others and repeating, in all (600; readme: 240; quick: 0)
  --others-max N   what is measured while others take more than N percent of a core is thrown away (5; quick: never)
  --output DIR     write the report to DIR
  --no-install     do not get what servers need that are not written in Rust; those without it are skipped
  --list           list the rows and the servers, and which are here
  --help           print this
";

/// What to do.
pub(crate) enum Command {
    Help,
    List,
    Run(Box<Run>),
    Pairs(Box<pairs::cli::Run>),
    ListPairs,
}

pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) quick: bool,
    pub(crate) readme: bool,
    pub(crate) rows: Vec<&'static Row>,
    /// Empty: all, or those of a quick pass.
    pub(crate) servers: Vec<String>,
    /// `None`: only print.
    pub(crate) output: Option<PathBuf>,
}

/// Reads the words after the program's name. `tree` is where a whole run is written to.
pub(crate) fn parse(words: &[String], tree: &str) -> Result<Command, String> {
    if words.iter().any(|word| word == pairs::cli::PAIRS) && !words.iter().any(|word| word == "--help" || word == "-h")
    {
        let run = pairs::cli::parse(words, tree)?;
        return Ok(run.map_or(Command::ListPairs, |run| Command::Pairs(Box::new(run))));
    }
    let (mut quick, mut readme, mut output) = (false, false, None);
    let (mut rounds, mut seconds, mut patience, mut others_max) = (None, None, None, None);
    let (mut names, mut servers): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--quick" => quick = true,
            "--readme" => readme = true,
            // What it says was done, or not, before this program was built.
            "--no-install" => {}
            "--servers" => servers.extend(value()?.split(',').map(|name| name.trim().to_owned())),
            "--rounds" => rounds = Some(number(word, value()?, 1..=100)?),
            "--seconds" => seconds = Some(number(word, value()?, 1..=600)?),
            "--patience" => patience = Some(number(word, value()?, 0..=86_400)?),
            "--others-max" => others_max = Some(number(word, value()?, 0..=10_000)?),
            "--output" => output = Some(PathBuf::from(value()?)),
            option if option.starts_with('-') => return Err(format!("unknown option {option}; see --help")),
            name if ROWS.iter().any(|row| row.name == name) => names.push(name),
            name => return Err(format!("unknown row {name}; see --list")),
        }
    }
    let is_part = !names.is_empty() || !servers.is_empty() || quick;
    if readme {
        names.extend(if names.is_empty() { &README[..] } else { &[] });
        servers.extend(if servers.is_empty() { README_SERVERS.map(str::to_owned).to_vec() } else { Vec::new() });
    }
    let mut plan = match (quick, readme) {
        (true, _) => Plan::QUICK,
        (false, true) => Plan::README,
        (false, false) => Plan::FULL,
    };
    if let Some(rounds) = rounds {
        plan.rounds = Rounds::Each(rounds as usize);
    }
    if let Some(seconds) = seconds {
        plan.set_timed(Duration::from_secs(seconds));
    }
    if let Some(patience) = patience {
        plan.patience = Duration::from_secs(patience);
    }
    if let Some(percent) = others_max {
        plan.others_cores_max = Some(percent as f64 / 100.0);
    }
    // A part must not replace a report of all.
    if output.is_none() && !is_part {
        output = Some(PathBuf::from(tree).join(if readme { "readme" } else { "" }));
    }
    let rows = ROWS.iter().filter(|row| names.is_empty() || names.contains(&row.name)).collect();
    Ok(Command::Run(Box::new(Run { plan, quick, readme, rows, servers, output })))
}

fn number(option: &str, text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse::<u64>().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| format!("{option} takes a number from {} to {}, not {text}", allowed.start(), allowed.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Run, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words, "tree")? {
            Command::Run(run) => Ok(*run),
            _ => Err("not a run".to_owned()),
        }
    }

    #[test]
    fn only_a_full_run_of_all_rows_and_servers_is_written_to_the_tree() {
        assert_eq!(run("").unwrap().output, Some(PathBuf::from("tree")));
        assert_eq!(run("--quick").unwrap().output, None);
        assert_eq!(run("idle").unwrap().output, None);
        assert_eq!(run("--servers baiwan,nginx").unwrap().output, None);
        assert_eq!(run("--quick --output x").unwrap().output, Some(PathBuf::from("x")));
        assert_eq!(run("--readme --patience 9").unwrap().output, Some(PathBuf::from("tree/readme")));
        assert_eq!(run("--readme json").unwrap().output, None);
    }

    #[test]
    fn rows_are_selected_by_name_in_the_order_of_the_report() {
        let names = |line: &str| run(line).unwrap().rows.iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names("sse get-small"), ["get-small", "sse"]);
        assert_eq!(names("").len(), ROWS.len());
        assert_eq!(names("--readme"), README);
        assert_eq!(names("--readme json"), ["json"]);
        assert_eq!(run("--readme").unwrap().servers, README_SERVERS);
    }

    #[test]
    fn servers_are_named_with_commas() {
        assert_eq!(run("--servers baiwan,nginx --no-install idle").unwrap().servers, ["baiwan", "nginx"]);
        assert!(run("--no-install").unwrap().servers.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for line in [
            "--fast",
            "latency",
            "--rounds",
            "--rounds 0",
            "--seconds x",
            "--patience -1",
            "--others-max 10001",
            "--servers",
        ] {
            let message = run(line).err().unwrap();
            assert!(line.split(' ').all(|word| message.contains(word)), "{line}: {message}");
            assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn options_change_the_plan() {
        let plan = run("--quick --rounds 2 --seconds 7").unwrap().plan;
        assert_eq!(
            (plan.rounds, plan.timed, plan.wrk),
            (Rounds::Each(2), Duration::from_secs(7), Duration::from_secs(70))
        );
        assert_eq!((plan.connections_max, plan.others_cores_max), (Plan::QUICK.connections_max, None));
        assert_eq!(run("--others-max 8").unwrap().plan.others_cores_max, Some(0.08));
    }
}
