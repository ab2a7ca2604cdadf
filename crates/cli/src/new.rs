//! `nano new`: a project that builds, runs and has tests.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use clap::Args;

use crate::{failure::Failure, table::print};

/// The files of a project. In them `{{name}}` is the package, `{{crate}}` its library, `{{clone}}`
/// the checkout, and `{{path}}` the same as a string of TOML.
const FILES: [(&str, &str); 13] = [
    ("Cargo.toml", include_str!("../template/Cargo.toml.in")),
    ("README.md", include_str!("../template/README.md.in")),
    ("game.toml", include_str!("../template/game.toml.in")),
    ("bots.toml", include_str!("../template/bots.toml.in")),
    (
        "cluster/master.toml",
        include_str!("../template/master.toml.in"),
    ),
    (
        "cluster/gate.toml",
        include_str!("../template/gate.toml.in"),
    ),
    (
        "cluster/room.toml",
        include_str!("../template/room.toml.in"),
    ),
    (
        "Containerfile",
        include_str!("../template/Containerfile.in"),
    ),
    (".dockerignore", include_str!("../template/dockerignore.in")),
    (".gitignore", "/target\n*.env\n"),
    ("src/lib.rs", include_str!("../template/lib.rs.in")),
    ("src/main.rs", include_str!("../template/main.rs.in")),
    ("tests/game.rs", include_str!("../template/test.rs.in")),
];

/// The longest name of a project, in bytes.
const MAX_NAME: usize = 64;

/// Names that a package cannot have: words of the language, and crates that would be hidden.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "nano",
    "nano_server",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "serde_json",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "tokio",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// The arguments of the command.
#[derive(Args, Debug)]
pub(crate) struct New {
    /// The name of the project, and of the folder that is made
    name: String,
    /// A checkout of nano, on which the project depends; nothing is published yet. Without it, the
    /// one that this command was built from
    #[arg(long)]
    path: Option<PathBuf>,
}

impl New {
    /// # Errors
    /// The name or the checkout is not valid, or the folder is there already.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        check_name(&self.name).map_err(Failure::Usage)?;
        let checkout = self.checkout().map_err(Failure::Usage)?;
        let folder = Path::new(&self.name);
        fs::create_dir(folder).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::Usage(format!("{} is there already", self.name))
            }
            _ => Failure::Failed(format!("cannot make {}: {error}", self.name)),
        })?;
        for (file, template) in FILES {
            let path = folder.join(file);
            let written = path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, fill(template, &self.name, &checkout)));
            written.map_err(|error| {
                Failure::Failed(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        Ok(print(&format!(
            "made {0}; next: cd {0} && cargo test && cargo run",
            self.name
        ))?)
    }

    /// The folder of the crate, as the project names it.
    fn checkout(&self) -> Result<String, String> {
        let built_from = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = self.path.clone().unwrap_or_else(built_from);
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
        if !manifest
            .lines()
            .any(|line| line.trim() == "name = \"nano-server\"")
        {
            return Err(match &self.path {
                Some(path) => format!("{} is no checkout of nano", path.display()),
                None => {
                    "the checkout that this command was built from is gone: give --path".to_owned()
                }
            });
        }
        let absolute = |path: &Path| {
            fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (path, project) = (absolute(&path)?, absolute(Path::new("."))?.join(&self.name));
        let path = relative(&project, &path).unwrap_or(path);
        let path = path.into_os_string().into_string();
        path.map_err(|path| format!("{}: the path is not UTF-8", path.display()))
    }
}

/// The way from one folder to another, both absolute, so that they can be moved, or built elsewhere,
/// together. `None` if they have only the root in common: they are not beside each other.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let common = from.ancestors().find(|it| to.starts_with(it))?;
    let (up, down) = (
        from.strip_prefix(common).ok()?,
        to.strip_prefix(common).ok()?,
    );
    let up = up.components().map(|_| Component::ParentDir);
    common.parent()?;
    Some(up.chain(down.components()).collect())
}

/// # Errors
/// Says what a name looks like.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    if !begins || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(format!(
            "{name:?} is no name for a project: up to {MAX_NAME} lower-case letters, digits, `-` and `_`, a letter first"
        ));
    }
    match TAKEN.contains(&name.replace('-', "_").as_str()) {
        true => Err(format!("{name} is the name of something else")),
        false => Ok(()),
    }
}

fn fill(template: &str, name: &str, checkout: &str) -> String {
    template
        .replace("{{name}}", name)
        .replace("{{crate}}", &name.replace('-', "_"))
        // A string of JSON is one of TOML.
        .replace("{{path}}", &serde_json::Value::from(checkout).to_string())
        .replace("{{clone}}", checkout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_packages() {
        for name in ["a", "my-game", "game_2"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in [
            "",
            "2d",
            "-a",
            "My",
            "a b",
            "a/b",
            "..",
            "ä",
            "nano",
            "fn",
            "nano-server",
            &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_checkout_beside_the_project_is_named_from_there() {
        let way = |from: &str, to: &str| {
            let way = relative(Path::new(from), Path::new(to))?;
            Some(way.to_str().unwrap().to_owned())
        };
        let relative = |text: &str| Some(text.to_owned());
        assert_eq!(way("/home/ann/game", "/home/ann/nano"), relative("../nano"));
        assert_eq!(
            way("/home/ann/games/one", "/home/ann/libs/nano"),
            relative("../../libs/nano")
        );
        assert_eq!(way("/home/ann/nano/game", "/home/ann/nano"), relative(".."));
        assert_eq!(way("/tmp/game", "/home/ann/nano"), None);
    }

    #[test]
    fn no_place_of_a_template_stays_empty() {
        for (file, template) in FILES {
            let filled = fill(template, "my-game", "/a \"b\"\\c");
            assert!(!filled.contains("{{"), "{file}");
        }
        let manifest = fill(FILES[0].1, "my-game", "/a \"b\"\\c");
        let manifest: toml::Table = manifest.parse().unwrap();
        let path = &manifest["dependencies"]["nano-server"]["path"];
        assert_eq!(path.as_str(), Some("/a \"b\"\\c"));
    }
}
