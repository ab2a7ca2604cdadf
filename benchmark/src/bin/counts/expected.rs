//! `counts.json`: what a message may take.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use nano::Result;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// By how much a count may be higher: with the compiler below, and with another.
    tolerance: f64,
    tolerance_other_compiler: f64,
    compiler: String,
    pub(crate) instructions: BTreeMap<String, u64>,
}

impl Expected {
    pub(crate) fn read() -> Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path())?)?)
    }

    pub(crate) fn tolerance(&self) -> f64 {
        let compiler = compiler();
        if self.compiler == compiler {
            return self.tolerance;
        }
        println!(
            "counts.json is of {}, this is {compiler}: {:.0} % are tolerated",
            self.compiler,
            self.tolerance_other_compiler * 100.0
        );
        self.tolerance_other_compiler
    }

    pub(crate) fn write(mut self) -> Result {
        self.compiler = compiler();
        Ok(fs::write(
            path(),
            serde_json::to_string_pretty(&self)? + "\n",
        )?)
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts.json")
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
