//! In place of the cluster's TLS where the feature `tls` is off.

use std::sync::Arc;

use tonic::{
    Extensions,
    transport::{Endpoint, Error as TransportError, Server},
};

use super::tls_options::ClusterTls;
use crate::error::{Error, Result, code};

/// Never made.
#[derive(Debug)]
pub(super) enum NodeTls {}

impl NodeTls {
    /// # Errors
    /// Always: [`code::UNSUPPORTED`].
    pub(super) fn read(options: &ClusterTls) -> Result<Arc<Self>> {
        Err(Error::new(
            code::UNSUPPORTED,
            format!("{options:?} needs the feature `tls`, which this program was built without"),
        ))
    }

    pub(super) fn read_again(&self) -> Result<Option<Box<dyn FnOnce() + Send>>> {
        match *self {}
    }

    pub(super) fn contents(&self) -> u64 {
        match *self {}
    }

    pub(super) fn secure_server(&self, _: Server) -> Result<Server, TransportError> {
        match *self {}
    }

    pub(super) fn secure_endpoint(&self, _: Endpoint) -> Result<Endpoint, TransportError> {
        match *self {}
    }
}

pub(super) fn connect_info<T>(_: &Extensions) -> Option<&T> {
    None
}
