//! Servers in Go, built from the folders of `peers`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Builds a package of a module in `peers`. The program is in `out`; an error is one line that says
/// why there is none.
pub(crate) fn build(module: &str, package: &str, out: &Path) -> Result<PathBuf, String> {
    let name = package.rsplit('/').find(|part| !is_version(part));
    let name = name.filter(|name| *name != ".").unwrap_or(module);
    let binary = std::path::absolute(out.join(name)).map_err(|error| error.to_string())?;
    let built = Command::new("go")
        .arg("build")
        .arg("-o")
        .arg(&binary)
        .arg(package)
        .current_dir(folder(module))
        .output();
    match built {
        Err(error) => Err(format!("Go is not installed ({error})")),
        Ok(output) if output.status.success() => Ok(binary),
        Ok(output) => Err(reason(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// The sources of a peer.
pub(crate) fn folder(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(peer)
}

/// The version of a module that a `go.mod` requires.
pub(crate) fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    let mut lines = go_mod.lines().map(str::trim);
    lines.find_map(|line| {
        let line = line.trim_start_matches("require ");
        line.strip_prefix(module)?
            .strip_prefix(' ')?
            .split(' ')
            .next()
    })
}

/// The output of `go version`.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("go").arg("version").output().ok()?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .trim_start_matches("go version ")
            .to_owned(),
    )
}

/// Whether a part of an import path is a major version, as in `server/v3`.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v')
        .is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The line of Go's errors that counts, without the place it looked for a module.
fn reason(errors: &str) -> String {
    let mut lines = errors.lines().map(|line| line.trim_start_matches("go: "));
    let line = lines.find(|line| !line.starts_with("downloading "));
    match line.and_then(|line| line.split_once(": reading ")) {
        Some((place, _)) => {
            let module = place.rsplit(' ').next().unwrap_or(place);
            format!("{module} cannot be downloaded")
        }
        None => format!("go build: {}", line.unwrap_or("failed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_are_required() {
        let go_mod =
            "module x\n\nrequire a.b/c v1.2.3\n\nrequire (\n\ta.b/c/v2 v2.0.1 // indirect\n)\n";
        assert_eq!(required(go_mod, "a.b/c"), Some("v1.2.3"));
        assert_eq!(required(go_mod, "a.b/c/v2"), Some("v2.0.1"));
        assert_eq!(required(go_mod, "a.b"), None);
    }

    #[test]
    fn the_reason_names_the_module_and_not_where_it_was_looked_for() {
        let errors = "go: downloading a.b/d v1.0.0\nmain.go:3:2: a.b/c@v1.2.3: reading somewhere: 403 Forbidden\n\tmore\n";
        assert_eq!(reason(errors), "a.b/c@v1.2.3 cannot be downloaded");
        assert_eq!(reason("# x\n./main.go:1: no"), "go build: # x");
        assert_eq!(reason(""), "go build: failed");
    }
}
