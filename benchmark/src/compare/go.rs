//! Go nano, built from the program in `peers/nano-go`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The program, or in one line why there is none.
pub(crate) fn build(out: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/nano-go");
    let binary = std::path::absolute(out.join("nano-go")).map_err(|error| error.to_string())?;
    let built = Command::new("go")
        .arg("build")
        .arg("-o")
        .arg(&binary)
        .arg(".")
        .current_dir(source)
        .output();
    match built {
        Err(error) => Err(format!("Go is not installed ({error})")),
        Ok(output) if output.status.success() => Ok(binary),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "go build: {}",
                said.lines().next().unwrap_or("failed")
            ))
        }
    }
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
