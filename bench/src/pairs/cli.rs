//! The command line of a run in pairs. Pure: words in, a run out.

use std::path::PathBuf;

use super::rows::{Plan, ROWS, Row};

/// The word that makes a run one in pairs.
pub(crate) const PAIRS: &str = "--pairs";

/// What to measure, and how.
pub(crate) struct Run {
    pub(super) plan: Plan,
    pub(super) is_quick: bool,
    pub(super) rows: Vec<&'static Row>,
    /// `None`: only print.
    pub(super) output: Option<PathBuf>,
}

/// Reads the words after the program's name, [`PAIRS`] among them. None: the rows are to be listed. `tree` is where a whole run is
/// written to.
pub(crate) fn parse(words: &[String], tree: &str) -> Result<Option<Run>, String> {
    let (mut is_quick, mut output, mut names) = (false, None, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => return Ok(None),
            "--quick" => is_quick = true,
            // What the last says was done, or not, before this program was built.
            PAIRS | "--no-install" => {}
            "--output" => output = Some(PathBuf::from(words.next().ok_or("--output needs a value")?)),
            option if option.starts_with('-') => return Err(format!("{PAIRS} does not go with {option}; see --help")),
            name if ROWS.iter().any(|row| row.name == name) => names.push(name),
            name => return Err(format!("unknown row {name}; see {PAIRS} --list")),
        }
    }
    // A part must not replace a report of all.
    if output.is_none() && !is_quick && names.is_empty() {
        output = Some(PathBuf::from(tree).join("pairs"));
    }
    let is_wanted = |row: &&Row| if names.is_empty() { !is_quick || row.is_quick() } else { names.contains(&row.name) };
    let rows = ROWS.iter().filter(is_wanted).collect();
    Ok(Some(Run { plan: if is_quick { Plan::QUICK } else { Plan::FULL }, is_quick, rows, output }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Run, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words, "tree")?.ok_or_else(|| "not a run".to_owned())
    }

    #[test]
    fn only_a_full_run_of_all_rows_is_written_to_the_tree() {
        assert_eq!(run("--pairs").unwrap().output, Some(PathBuf::from("tree/pairs")));
        assert_eq!(run("--pairs idle-0").unwrap().output, None);
        assert_eq!(run("--pairs --quick").unwrap().output, None);
        assert_eq!(run("--pairs idle-0 --output x").unwrap().output, Some(PathBuf::from("x")));
    }

    #[test]
    fn a_short_pass_leaves_out_what_needs_more_to_be_installed_unless_it_is_named() {
        let names = |line: &str| run(line).unwrap().rows.iter().map(|row| row.name).collect::<Vec<_>>();
        assert!(names("--pairs").contains(&"echo-fasthttp") && !names("--pairs --quick").contains(&"echo-fasthttp"));
        assert_eq!(names("--quick --pairs echo-fasthttp get-64-axum"), ["get-64-axum", "echo-fasthttp"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, what) in
            [("--pairs get", "get"), ("--pairs --servers a", "--servers"), ("--pairs --output", "--output")]
        {
            let message = run(line).err().unwrap();
            assert!(message.contains(what), "{message}");
        }
    }
}
