//! Servers on Node, whose packages npm installs from the lock file of their folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::go::folder;

/// The least major version of Node.
const NODE: u32 = 20;

/// Installs the packages of a peer unless they are there. The result is its folder; an error is one
/// line that says why it cannot run.
pub(crate) fn install(peer: &str) -> Result<PathBuf, String> {
    let folder = folder(peer);
    let version = version().ok_or("Node is not installed")?;
    if major(&version).is_none_or(|major| major < NODE) {
        return Err(format!("Node {NODE} or newer is needed, this is {version}"));
    }
    if is_installed(&folder) {
        return Ok(folder);
    }
    let installed = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output();
    match installed {
        Err(error) => Err(format!("npm is not installed ({error})")),
        Ok(output) if output.status.success() => Ok(folder),
        Ok(_) => Err("its packages cannot be downloaded (npm ci)".to_owned()),
    }
}

/// The output of `node --version`.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("node").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a package that a `package.json` depends on.
pub(crate) fn required(package_json: &str, package: &str) -> Option<String> {
    let parsed: serde_json::Value = serde_json::from_str(package_json).ok()?;
    Some(parsed["dependencies"][package].as_str()?.to_owned())
}

/// Whether what npm installed last is what the lock file says.
fn is_installed(folder: &Path) -> bool {
    let modified = |file| fs::metadata(folder.join(file)).and_then(|found| found.modified());
    match (
        modified("package-lock.json"),
        modified("node_modules/.package-lock.json"),
    ) {
        (Ok(wanted), Ok(installed)) => installed >= wanted,
        _ => false,
    }
}

fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}
