//! What the modules of a crate import from each other, read from their text.
//!
//! Paths that begin with `crate`, `self` or `super` count wherever they stand, and so do those of a `use` that begin with a module
//! of one's own. What only tests import does not count. This is no compiler: a name that a glob re-exports belongs to the module
//! with the glob.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::tree::{files, is_test, name, without_tests};

/// The names of a module and of those around it, the outermost first; of the crate's root, none.
pub(crate) type ModulePath = Vec<String>;

/// How many re-exports of one name are followed.
const STEPS_MAX: usize = 8;

/// One import between two modules of a crate.
pub(crate) struct Import {
    pub(crate) from: ModulePath,
    pub(crate) to: ModulePath,
    /// Where it stands and what it says, for people.
    pub(crate) text: String,
}

/// A path in the text of a module.
struct Mention {
    path: Vec<String>,
    /// The name under which a `use` brings it in, for others to import from here.
    alias: Option<String>,
}

/// One source file.
struct Source {
    /// As people know it.
    name: String,
    module: ModulePath,
    mentions: Vec<Mention>,
}

/// All imports between modules of the crate whose root file stands in that folder.
pub(crate) fn of_crate(folder: &Path) -> Vec<Import> {
    let mut paths = Vec::new();
    files(folder, &mut paths);
    let in_crate = |path: &Path| path.extension().is_some_and(|extension| extension == "rs") && !is_test(path);
    let inside = |path: &Path| path.strip_prefix(folder).unwrap().to_owned();
    // What is in `bin` are crates of their own.
    let paths = paths.into_iter().filter(|path| in_crate(path) && !inside(path).starts_with("bin"));
    let files: Vec<(String, ModulePath, String)> =
        paths.map(|path| (name(&path), module_of(&inside(&path)), fs::read_to_string(&path).unwrap())).collect();
    of_files(files.iter().map(|(name, module, text)| (&name[..], module.clone(), &text[..])))
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; `lib.rs` and `main.rs` are the root.
fn module_of(file: &Path) -> ModulePath {
    let mut module: ModulePath =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&last[..])) {
        module.pop();
    }
    module
}

/// The imports between files, each given with its name, its module and its text.
pub(crate) fn of_files<'a>(files: impl Iterator<Item = (&'a str, ModulePath, &'a str)>) -> Vec<Import> {
    let sources: Vec<Source> = files
        .map(|(name, module, text)| Source { name: name.to_owned(), module, mentions: mentions(&code(text)) })
        .collect();
    let mut brought = BTreeMap::new();
    let is_module = |path: &[String]| path.is_empty() || sources.iter().any(|source| source.module == path);
    for source in &sources {
        for mention in &source.mentions {
            if let (Some(alias), Some(path)) = (&mention.alias, absolute(&source.module, &mention.path, is_module)) {
                brought.insert([&source.module[..], std::slice::from_ref(alias)].concat(), path);
            }
        }
    }
    let mut imports = Vec::new();
    for source in &sources {
        for mention in &source.mentions {
            let Some(path) = absolute(&source.module, &mention.path, is_module) else { continue };
            let to = defined_in(path, &brought, is_module);
            let text = format!("{}: {}", source.name, mention.path.join("::"));
            imports.push(Import { from: source.module.clone(), to, text });
        }
    }
    imports
}

/// The text without comments and test modules.
fn code(text: &str) -> String {
    let lines = without_tests(text).lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn mentions(code: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some(begin) = use_of(line) else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = begin.to_owned();
        while !tree.contains(';')
            && let Some(line) = lines.next()
        {
            tree.push_str(line.trim());
        }
        expand(tree.split(';').next().unwrap_or_default(), &[], &mut found);
    }
    found.extend(inline(&rest));
    found
}

/// What follows `use`, if the line begins one.
fn use_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(public) if public.starts_with('(') => public.split_once(')')?.1.trim_start(),
        Some(public) => public.trim_start(),
        None => line,
    };
    line.strip_prefix("use ")
}

/// Takes the paths of a tree such as `a::{b, c::{d, e as f}}` apart.
fn expand(tree: &str, before: &[String], found: &mut Vec<Mention>) {
    let mut depth = 0;
    let at_top = |letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    };
    let names = |path: &str| -> Vec<String> {
        path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    for part in tree.split(at_top).map(str::trim).filter(|part| !part.is_empty()) {
        if let Some((path, inner)) = part.split_once('{') {
            let path = [before, &names(path)].concat();
            expand(inner.strip_suffix('}').unwrap_or(inner), &path, found);
            continue;
        }
        let (path, alias) = part.split_once(" as ").unwrap_or((part, ""));
        let mut path = [before, &names(path)].concat();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let alias = if alias.is_empty() { path.last().cloned() } else { Some(alias.trim().to_owned()) };
        found.push(Mention { path, alias });
    }
}

/// Paths in the middle of code.
fn inline(code: &str) -> Vec<Mention> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    for root in ["crate::", "self::", "super::"] {
        for (begin, _) in code.match_indices(root) {
            // `$crate` is the crate of a macro, and what follows a colon is the middle of a path.
            if code[..begin].ends_with(|letter| is_part(letter) || letter == '$' || letter == ':') {
                continue;
            }
            let path = code[begin..].split(|letter| !is_part(letter) && letter != ':').next().unwrap_or_default();
            let path = path.split("::").take_while(|name| !name.is_empty()).map(str::to_owned).collect();
            found.push(Mention { path, alias: None });
        }
    }
    found
}

/// A path from the crate's root on; none if it leads out of the crate.
fn absolute(module: &[String], path: &[String], is_module: impl Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let up = path.iter().take_while(|name| *name == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => Some([&module[..module.len().checked_sub(up)?], &path[up..]].concat()),
        first => {
            let own = [module, &[first.to_owned()]].concat();
            is_module(&own).then(|| [module, path].concat())
        }
    }
}

/// The module in which what a path leads to is defined.
fn defined_in(
    mut path: Vec<String>,
    brought: &BTreeMap<Vec<String>, Vec<String>>,
    is_module: impl Fn(&[String]) -> bool,
) -> ModulePath {
    for _ in 0..STEPS_MAX {
        let depth = (0..=path.len()).rev().find(|depth| is_module(&path[..*depth])).unwrap_or_default();
        let item = &path[..path.len().min(depth + 1)];
        match brought.get(item) {
            Some(origin) if depth < path.len() && origin != item => path = [&origin[..], &path[depth + 1..]].concat(),
            _ => {
                path.truncate(depth);
                break;
            }
        }
    }
    path
}
