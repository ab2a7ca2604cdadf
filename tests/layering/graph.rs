//! Which file imports which, and the two things that can be wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::source::Crate;

/// An import: from a file, to the file that defines what is imported.
pub(crate) type Import = (PathBuf, PathBuf);

/// All imports between the files of a crate.
pub(crate) fn imports(source: &Crate) -> BTreeSet<Import> {
    let mut imports = BTreeSet::new();
    for (at, module) in source.modules.iter().enumerate() {
        for path in &module.paths {
            if let Some(to) = source.definition(at, path)
                && source.modules[to].file != module.file
            {
                imports.insert((module.file.clone(), source.modules[to].file.clone()));
            }
        }
    }
    imports
}

/// The files that lead back to themselves by imports, in groups.
pub(crate) fn cycles(imports: &BTreeSet<Import>) -> Vec<BTreeSet<PathBuf>> {
    components(imports.iter().map(|(from, to)| (from.clone(), to.clone())))
}

/// The imports that run up: those of a file above, and those between siblings that import each
/// other, directly or by way of further siblings.
///
/// A file `x.rs` is above the files in `x/`. Of siblings, each with its folder, none is above the
/// other until one imports another.
pub(crate) fn upward(imports: &BTreeSet<Import>) -> BTreeSet<Import> {
    let mut wrong = BTreeSet::new();
    // By folder: the siblings that import each other, and by which files.
    let mut siblings: BTreeMap<PathBuf, Vec<(PathBuf, PathBuf, &Import)>> = BTreeMap::new();
    for import in imports {
        let (from, to) = (place(&import.0), place(&import.1));
        if from.starts_with(&to) {
            wrong.insert(import.clone());
        } else if !to.starts_with(&from) {
            let common = from
                .iter()
                .zip(&to)
                .take_while(|(from, to)| from == to)
                .count();
            let at = |path: &PathBuf| path.iter().take(common + 1).collect::<PathBuf>();
            siblings
                .entry(from.iter().take(common).collect())
                .or_default()
                .push((at(&from), at(&to), import));
        }
    }
    for edges in siblings.values() {
        let pairs = edges.iter().map(|(from, to, _)| (from.clone(), to.clone()));
        for cycle in components(pairs) {
            let inside = |(from, to, _): &&(PathBuf, PathBuf, &Import)| {
                cycle.contains(from) && cycle.contains(to)
            };
            wrong.extend(
                edges
                    .iter()
                    .filter(inside)
                    .map(|(_, _, import)| (*import).clone()),
            );
        }
    }
    wrong
}

/// `src/a/b` of `src/a/b.rs`; `src` of `src/lib.rs`.
fn place(file: &Path) -> PathBuf {
    if file.ends_with("lib.rs") {
        file.parent().unwrap().to_owned()
    } else {
        file.with_extension("")
    }
}

/// Strongly connected components of more than one node.
fn components(edges: impl Iterator<Item = (PathBuf, PathBuf)>) -> Vec<BTreeSet<PathBuf>> {
    let mut targets: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (from, to) in edges {
        targets.entry(to.clone()).or_default();
        targets.entry(from).or_default().insert(to);
    }
    let reach: BTreeMap<_, _> = targets
        .keys()
        .map(|node| (node, reachable(&targets, node)))
        .collect();
    let mut found: BTreeSet<BTreeSet<PathBuf>> = BTreeSet::new();
    for (node, reached) in &reach {
        if reached.contains(*node) {
            let back = reached.iter().filter(|other| reach[other].contains(*node));
            found.insert(back.cloned().collect());
        }
    }
    found.into_iter().collect()
}

fn reachable(targets: &BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &PathBuf) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = targets[from].iter().collect();
    while let Some(node) = next.pop() {
        if reached.insert(node.clone()) {
            next.extend(&targets[node]);
        }
    }
    reached
}
