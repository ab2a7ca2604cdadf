//! The stage of a new project's Containerfile that builds, without a program for containers: its COPY
//! lines, in an empty directory.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::beginning::checkout;

/// The file system of the stage.
pub(crate) struct Image {
    root: TempDir,
    directory: PathBuf,
}

impl Image {
    /// Copies what the stage `build` copies, of the project and of the clone.
    ///
    /// # Panics
    /// A line is of a kind that is not known here, or names what is not there.
    pub(crate) fn build(project: &Path, clone: &Path) -> Self {
        let file = fs::read_to_string(project.join("Containerfile")).unwrap();
        let (_, stage) = file.split_once(" AS build\n").unwrap();
        let (stage, _) = stage.split_once("\nFROM ").unwrap();
        // The directory of the image, from its root.
        let mut directory = PathBuf::new();
        let root = tempfile::tempdir().unwrap();
        for line in stage.lines().filter(|it| !it.starts_with('#')) {
            let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
            match instruction {
                "WORKDIR" => {
                    directory = joined(&directory, rest);
                    fs::create_dir_all(root.path().join(&directory)).unwrap();
                }
                "COPY" => {
                    let (from, rest) = match rest.strip_prefix("--from=nano ") {
                        Some(rest) => (clone, rest),
                        None => (project, rest),
                    };
                    let mut paths: Vec<_> = rest.split(' ').collect();
                    let to = paths.pop().unwrap();
                    for path in paths {
                        copy(&from.join(path), &root.path().join(joined(&directory, to)));
                    }
                }
                "RUN" | "ENV" | "" => {}
                other => panic!("{other}"),
            }
        }
        let directory = root.path().join(directory);
        Self { root, directory }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap()
    }

    /// What Cargo prints there, with the versions that were tested.
    ///
    /// # Panics
    /// It fails.
    pub(crate) async fn cargo(&self, arguments: &[&str]) -> String {
        let lock = Path::new(&checkout()).join("Cargo.lock");
        fs::copy(lock, self.directory.join("Cargo.lock")).unwrap();
        let target = Path::new(env!("CARGO_BIN_EXE_nano")).ancestors().nth(2);
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(arguments)
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", target.unwrap())
            .stdin(Stdio::null());
        let output = cargo.output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A path of the image, as WORKDIR and COPY take it: from its root, or from a directory.
fn joined(directory: &Path, path: &str) -> PathBuf {
    let mut joined = match path.starts_with('/') {
        true => PathBuf::new(),
        false => directory.to_owned(),
    };
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => joined.push(name),
            // None above the root.
            Component::ParentDir => drop(joined.pop()),
            _ => {}
        }
    }
    joined
}

/// Copies a file into a directory, or the content of a directory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    if from.is_file() {
        fs::copy(from, to.join(from.file_name().unwrap())).unwrap();
        return;
    }
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => copy(&entry.path(), to),
        }
    }
}
