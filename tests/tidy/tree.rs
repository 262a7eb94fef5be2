//! The files of the repository, as the checks read them.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// All files under a folder, build output apart.
pub(crate) fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && !path.ends_with("target") && !path.ends_with("node_modules") {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn all_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), &mut found);
    found
}

pub(crate) fn rust_files() -> Vec<PathBuf> {
    all_files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Code that only tests run.
pub(crate) fn is_test(path: &Path) -> bool {
    let names = ["tests", "tests.rs", "simulation"];
    path.components().any(|part| names.iter().any(|name| part.as_os_str() == *name))
}

/// The code of a file that is no test: what stands before its first test module.
pub(crate) fn without_tests(text: &str) -> &str {
    let is_module = |rest: &str| rest.lines().nth(1).is_some_and(|line| line.contains("mod ") && line.ends_with('{'));
    let begin = text.match_indices("#[cfg(test)]\n").map(|(begin, _)| begin).find(|begin| is_module(&text[*begin..]));
    &text[..begin.unwrap_or(text.len())]
}

/// The text between back quotes.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
