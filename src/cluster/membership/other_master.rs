//! One of the other masters, as this one calls it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, transport::Channel};
use tracing::{debug, error, info};

use super::{
    election::message::{LeaseReply, LeaseRequest, Purpose},
    leadership::Leadership,
};
use crate::cluster::{grpc_channel::Dialer, masters};

/// Another master. Its name is resolved again whenever a connection is made.
pub(super) struct OtherMaster {
    address: String,
    dialer: Arc<Dialer>,
    /// The channel, and the last failure, so that each is logged once.
    state: Mutex<(Option<Channel>, Option<String>)>,
}

impl OtherMaster {
    pub(super) fn new(address: String, dialer: Arc<Dialer>) -> Self {
        Self {
            address,
            dialer,
            state: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the last request was answered.
    pub(super) fn answers(&self) -> bool {
        let state = self.state.lock();
        state.0.is_some() && state.1.is_none()
    }

    /// Sends a request, and gives the answer to the election.
    pub(super) async fn ask(
        &self,
        request: LeaseRequest,
        sent: Instant,
        within: Duration,
        leadership: &Leadership,
    ) {
        let call = self.call(&request, leadership.masters());
        let result = timeout(within, call).await;
        match result.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
            Ok(reply) => {
                self.log(None);
                leadership.on_reply(&self.address, &request, sent, reply);
            }
            Err(status) => {
                // The next call makes a new connection: on the old one TCP retransmits at growing
                // intervals, long after a partition has healed.
                self.state.lock().0 = None;
                self.log(Some(&status));
            }
        }
    }

    async fn call(
        &self,
        request: &LeaseRequest,
        masters: Vec<String>,
    ) -> Result<LeaseReply, Status> {
        let channel = self.channel()?;
        let purpose = match request.purpose {
            Purpose::Probe => masters::Purpose::Probe,
            Purpose::Vote => masters::Purpose::Vote,
            Purpose::Renew => masters::Purpose::Renew,
            Purpose::Resign => masters::Purpose::Resign,
        };
        let request = masters::LeaseRequest {
            purpose: purpose.into(),
            address: request.from.address.clone(),
            incarnation: request.from.incarnation,
            term: request.term,
            reserved: request.reserved,
            masters,
        };
        let reply = self.dialer.masters(channel).lease(request).await?;
        let masters::LeaseReply {
            granted,
            floor,
            promised,
        } = reply.into_inner();
        Ok(LeaseReply {
            granted,
            floor,
            promised,
        })
    }

    fn channel(&self) -> Result<Channel, Status> {
        let mut state = self.state.lock();
        if let Some(channel) = &state.0 {
            return Ok(channel.clone());
        }
        let channel = self
            .dialer
            .channel(&self.address)
            .map_err(|error| Status::invalid_argument(error.message().to_owned()))?;
        Ok(state.0.insert(channel).clone())
    }

    /// Logs a failure that is not the last one again, and the first answer after it.
    fn log(&self, failure: Option<&Status>) {
        let failure = failure.map(|it| format!("{:?}: {}", it.code(), it.message()));
        let mut state = self.state.lock();
        if state.1 == failure {
            return;
        }
        let known = std::mem::replace(&mut state.1, failure.clone());
        drop(state);
        let master = &self.address;
        match failure {
            None => info!(master, "other master answers again"),
            Some(error) if is_mistake(&error) => {
                error!(master, error, "other master refuses this one")
            }
            Some(error) if known.is_none() => info!(master, error, "other master does not answer"),
            Some(error) => debug!(master, error, "other master does not answer"),
        }
    }
}

/// Whether a failure is one of the configuration, which does not pass.
fn is_mistake(failure: &str) -> bool {
    [
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::Unimplemented,
    ]
    .iter()
    .any(|code| failure.starts_with(&format!("{code:?}:")))
}
