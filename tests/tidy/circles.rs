//! Modules of a crate that import each other in a circle: none of them can be read or changed before the others.
//!
//! An import counts between the two siblings where its ends part: `store::demo` that imports `crate::clock` is `store` that
//! imports `clock`. So a module and all that is inside of it are one part, whose pieces may import from the module around them.
//! A name that a module only re-exports belongs to the module that defines it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::imports::{self, Import, ModulePath};
use crate::tree::{name, rust_files};

/// Between two siblings: one of the imports.
type Edges = BTreeMap<(ModulePath, ModulePath), String>;

#[test]
fn modules_do_not_import_each_other_in_a_circle() {
    let mut wrong = String::new();
    for folder in crates() {
        let edges = edges(&imports::of_crate(&folder));
        let folder = name(&folder);
        for circle in circles(&edges) {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            wrong += &format!("\n{folder}: {} import each other in a circle:\n", names.join(", "));
            for (from, to) in circle.iter().zip(circle.iter().cycle().skip(1)) {
                wrong += &format!("    {}\n", edges[&(from.clone(), to.clone())]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The folders with the root file of a crate.
fn crates() -> BTreeSet<PathBuf> {
    let is_root = |path: &&PathBuf| path.ends_with("lib.rs") || path.ends_with("main.rs");
    let in_src = |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "src");
    let files = rust_files();
    files.iter().filter(is_root).filter(in_src).filter_map(|path| path.parent().map(Path::to_owned)).collect()
}

fn edges(imports: &[Import]) -> Edges {
    let mut edges = Edges::new();
    for Import { from, to, text } in imports {
        let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        if shared < from.len() && shared < to.len() {
            let ends = (from[..=shared].to_vec(), to[..=shared].to_vec());
            edges.entry(ends).or_insert_with(|| text.clone());
        }
    }
    edges
}

/// The shortest circle through each edge that is part of one; each circle once, its least module first.
fn circles(edges: &Edges) -> BTreeSet<Vec<ModulePath>> {
    let circle = |(from, to): &(ModulePath, ModulePath)| {
        let mut circle = way(edges, to, from)?;
        let least = circle.iter().enumerate().min_by_key(|(_, module)| *module)?.0;
        circle.rotate_left(least);
        Some(circle)
    };
    edges.keys().filter_map(circle).collect()
}

/// The modules on the shortest way from one to another, both included.
fn way(edges: &Edges, from: &ModulePath, to: &ModulePath) -> Option<Vec<ModulePath>> {
    let mut before = BTreeMap::from([(from, None)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(module) = waiting.pop_front() {
        if module == to {
            let mut way: Vec<ModulePath> =
                std::iter::successors(Some(module), |module| before[module]).cloned().collect();
            way.reverse();
            return Some(way);
        }
        for (_, next) in edges.keys().filter(|(begin, _)| begin == module) {
            before.entry(next).or_insert_with(|| {
                waiting.push_back(next);
                Some(module)
            });
        }
    }
    None
}

/// The circles of made-up files.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let module = |path: &str| path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let imports = imports::of_files(files.iter().map(|(path, text)| (*path, module(path), *text)));
    let shown = |circle: &Vec<ModulePath>| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" ");
    circles(&edges(&imports)).iter().map(shown).collect()
}

#[test]
fn a_circle_is_found_through_folders_re_exports_and_longer_ways() {
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", "fn f(a: &crate::a::A) {}")]), ["a b"]);
    assert_eq!(
        circles_of(&[("a", "use super::{\n    b::B,\n};"), ("b", "use crate::c::C;"), ("c", "use crate::a;")]),
        ["a b c"]
    );
    let store =
        [("store", "mod demo;"), ("store::demo", "use crate::clock::now;"), ("clock", "use crate::store::LIFETIME;")];
    assert_eq!(circles_of(&store), ["clock store"]);
    let within = [("s", ""), ("s::a", "use super::b::{self, B};"), ("s::b", "use crate::s::a::A as X;")];
    assert_eq!(circles_of(&within), ["s::a s::b"]);
    let through_the_root = [("", "pub use a::A;\nmod a;\nmod b;"), ("a", "use crate::b::B;"), ("b", "use crate::A;")];
    assert_eq!(circles_of(&through_the_root), ["a b"]);
}

#[test]
fn what_is_inside_of_a_module_and_what_tests_import_makes_no_circle() {
    assert_eq!(circles_of(&[("s", "use self::a::A;\nuse a::B;"), ("s::a", "use super::Shared;")]), [""; 0]);
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n";
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", tests)]), [""; 0]);
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", "// use crate::a::A;\n")]), [""; 0]);
}
