use std::{fs, path::PathBuf};

use nano::{App, Config, Node};
use tempfile::TempDir;

/// A configuration in a file that changes.
pub(crate) struct File {
    _folder: TempDir,
    pub(crate) path: PathBuf,
}

impl File {
    pub(crate) const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

    /// With this text, and a listener.
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        let file = Self {
            _folder: folder,
            path,
        };
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(&self.path, format!("{text}\n{}", Self::LISTENER)).unwrap();
    }

    /// Starts an app of it.
    pub(crate) async fn start(&self) -> Node {
        let config = Config::load(&self.path).unwrap();
        App::new().config(&config).start().await.unwrap()
    }
}
