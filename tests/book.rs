//! The documents as a book: every chapter is in its summary and compiled, links lead somewhere, and what
//! chapters quote is what the code says.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: impl AsRef<Path>) -> String {
    let file = root().join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The Markdown files of a folder and those below it, from the root of the repository.
fn documents(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            found.extend(documents(&path));
        } else if name.ends_with(".md") {
            found.push(path.into());
        }
    }
    found
}

/// A fenced block: what stands behind the fence, and the lines.
struct Block {
    info: String,
    text: String,
}

/// The fenced blocks of a document, and the rest of it.
fn parse(document: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block {
                    info: info.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => prose += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "a block without an end");
    (blocks, prose)
}

/// The targets of `[text](target)`.
fn links(prose: &str) -> Vec<&str> {
    let targets = prose.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// The anchors of a document's headings, as GitHub and mdBook make them.
fn anchors(document: &str) -> HashSet<String> {
    let (_, prose) = parse(document);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// `a/b/../c` is `a/c`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                assert!(normal.pop(), "{} leaves the repository", path.display())
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn every_chapter_is_in_the_summary_once() {
    let summary = read("docs/SUMMARY.md");
    let mut listed = links(&summary);
    listed.sort_unstable();
    let mut there: Vec<_> = documents("docs")
        .iter()
        .map(|path| {
            path.strip_prefix("docs")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        // The summary itself, and the front page of the API documentation, whose links are names of
        // items.
        .filter(|path| path != "SUMMARY.md" && path != "overview.md")
        .collect();
    there.sort_unstable();
    assert_eq!(listed, there);
}

#[test]
fn links_lead_somewhere_and_those_of_chapters_stay_in_the_book() {
    let mut faults = Vec::new();
    let others = ["README.md", "CONTRIBUTING.md", "tests/README.md"];
    let others = others.map(PathBuf::from);
    for file in documents("docs").into_iter().chain(others) {
        let text = read(&file);
        let (_, prose) = parse(&text);
        for link in links(&prose) {
            // Of the front page of the API documentation: names of items.
            let item = file.ends_with("overview.md") && link.contains("::");
            // In tables of the protocol, for example: `[u8](..)`.
            if item || link.contains("://") || link == ".." {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => normal(&file.parent().unwrap().join(path)),
            };
            let mut fault = |what: &str| faults.push(format!("{}: {link}: {what}", file.display()));
            if !root().join(&target).exists() {
                fault("not there");
            } else if file.starts_with("docs") && !target.starts_with("docs") {
                fault("not in the book");
            } else if !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
                fault("no such heading");
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_sample_in_rust_is_compiled() {
    let guide = read("src/guide.rs") + &read("src/lib.rs");
    for file in documents("docs") {
        let (blocks, _) = parse(&read(&file));
        let rust = |block: &Block| block.info.starts_with("rust") || block.info == "no_run";
        if blocks.iter().any(rust) {
            let name = file.display();
            assert!(
                guide.contains(&format!("include_str!(\"../{name}\")")),
                "{name}"
            );
        }
        for block in blocks {
            let (info, file) = (&block.info, file.display());
            let languages =
                "go js json mermaid no_run rust rust,ignore rust,no_run sh text toml yaml";
            let known = languages.split(' ').any(|known| known == info);
            assert!(known, "{file}: ```{info}");
        }
    }
}

/// What is not compiled where it stands is a part of a file that is.
#[test]
fn quoted_code_is_what_the_code_says() {
    let template = root().join("crates/cli/template");
    let template = fs::read_dir(template).unwrap().map(|file| {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        text.replace("{{crate}}", "my_game")
    });
    let template: Vec<_> = template.collect();
    let persistence = ["Cargo.toml", "src/game.rs", "src/store.rs"];
    let persistence = persistence.map(|file| read(format!("examples/persistence/{file}")));
    let mut quoted = 0;
    for file in documents("docs") {
        let sources = match file.to_str().unwrap() {
            name if name.starts_with("docs/tutorial/") => &template[..],
            "docs/cookbook/persistence.md" => &persistence[..],
            _ => &[],
        };
        let (blocks, _) = parse(&read(&file));
        let toml = |block: &Block| block.info == "toml" && !sources.is_empty();
        for block in blocks
            .iter()
            .filter(|block| block.info == "rust,ignore" || toml(block))
        {
            let found = sources.iter().any(|source| source.contains(&block.text));
            assert!(found, "{}: nowhere:\n{}", file.display(), block.text);
            quoted += 1;
        }
    }
    assert!(quoted > 15, "{quoted} quotations");
}
