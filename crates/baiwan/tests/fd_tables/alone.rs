//! A test in a process of its own.

use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};

const ALONE: &str = "BAIWAN_TEST_ALONE";
const DONE: &str = "the test has come to its end";

/// Runs the body in a process in which there is no other test; `name` is the test's, with its module.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    alone_with(name, &[], body);
}

/// As `alone`, with variables of the environment.
pub(crate) fn alone_with(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        body();
        eprintln!("{DONE}");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture"]).env(ALONE, "1").envs(variables.iter().copied());
    let output = command.output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // No test has that name if nothing was said.
    assert!(output.status.success() && complained.contains(DONE), "{}\n{said}\n{complained}", output.status);
}

/// From here on this is the most files that a table of this process may hold, and nothing can raise it.
pub(crate) fn limit_files(most: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
}
