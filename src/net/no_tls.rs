//! In place of TLS where the feature `tls` is off.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::error::{Error, Result, code};

/// Never made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientCertificates {}

/// The PEM files of a listener.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_authorities: Option<PathBuf>,
}

/// Never made.
#[derive(Debug)]
pub(crate) enum NewCertificate {}

/// Never made: [`ServerTls::from_files`] fails.
#[derive(Debug)]
pub(crate) enum ServerTls {}

impl ServerTls {
    /// # Errors
    /// Always: [`code::UNSUPPORTED`].
    pub(crate) fn from_files(files: TlsFiles) -> Result<Arc<Self>> {
        let files = [
            Some(files.certificate),
            Some(files.key),
            files.client_authorities,
        ];
        let files = files
            .into_iter()
            .flatten()
            .map(|file| file.display().to_string());
        Err(Error::new(
            code::UNSUPPORTED,
            format!(
                "TLS with {} needs the feature `tls`, which this program was built without",
                files.collect::<Vec<_>>().join(", ")
            ),
        ))
    }

    pub(crate) async fn accept<S>(&self, _: S) -> io::Result<(S, Option<ClientCertificates>)> {
        match *self {}
    }

    pub(crate) fn has_files(&self) -> bool {
        match *self {}
    }

    pub(crate) fn read_again(&self) -> Result<Option<NewCertificate>> {
        match *self {}
    }

    pub(crate) fn replace(&self, new: NewCertificate) {
        match new {}
    }

    pub(crate) fn certificate(&self) -> Option<&Path> {
        match *self {}
    }
}
