//! Passes members' calls on to the master that leads.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

use super::{leadership::Leader, state::ClusterState};
use crate::cluster::{
    grpc_channel::{Authorized, CALL_TIMEOUT},
    proto::master_client::MasterClient,
};

/// The metadata key of a call that a master passes on. It is passed on once only: two masters may
/// each take the other for the one that leads, for a moment.
const PASSED_ON: &str = "nano-passed-on";

/// Where members' calls go while another master leads.
pub(super) struct Forwarder {
    state: Arc<ClusterState>,
    /// The channel to the master with this address.
    channel: Mutex<Option<(String, Channel)>>,
}

impl Forwarder {
    pub(super) fn new(state: &Arc<ClusterState>) -> Self {
        Self {
            state: state.clone(),
            channel: Mutex::default(),
        }
    }

    /// Returns the master to pass a call on to; `None` if this one handles it.
    ///
    /// # Errors
    /// No master leads, as far as this one has heard.
    pub(super) fn leader<T>(
        &self,
        request: &Request<T>,
    ) -> Result<Option<MasterClient<Authorized>>, Status> {
        let Some(leadership) = self.state.leadership() else {
            return Ok(None);
        };
        match &*leadership.leaders().borrow() {
            Leader::Own(_) => Ok(None),
            Leader::Other(leader) if !request.metadata().contains_key(PASSED_ON) => {
                self.client(&leader.address).map(Some)
            }
            Leader::Unknown | Leader::Other(_) => Err(Status::unavailable(
                "no master leads: a majority of the masters is away",
            )),
        }
    }

    /// Makes the next call on a new connection.
    pub(super) fn reconnect(&self) {
        *self.channel.lock() = None;
    }

    fn client(&self, address: &str) -> Result<MasterClient<Authorized>, Status> {
        let dialer = &self.state.dialer;
        let mut cached = self.channel.lock();
        let channel = match &*cached {
            Some((to, channel)) if to == address => channel.clone(),
            _ => {
                let channel = dialer
                    .channel(address)
                    .map_err(|error| Status::unavailable(error.message().to_owned()))?;
                *cached = Some((address.to_owned(), channel.clone()));
                channel
            }
        };
        Ok(dialer.master(channel))
    }
}

/// Returns the request as it is passed on.
pub(super) fn passed_on<T>(request: Request<T>) -> Request<T> {
    let mut passed = Request::new(request.into_inner());
    passed
        .metadata_mut()
        .insert(PASSED_ON, MetadataValue::from_static("1"));
    passed.set_timeout(CALL_TIMEOUT);
    passed
}
