//! The gRPC service by which masters choose the one that leads: `nano.masters.v1.Masters`.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::{
    election::message::{LeaseRequest, MasterId, Purpose},
    leadership::Leadership,
};
use crate::cluster::masters::{
    self, LeaseReply,
    masters_server::{self, MastersServer},
};

/// The longest request, in bytes: the addresses of all masters.
const MAX_REQUEST: usize = 4 * 1024;

/// Answers the other masters.
pub(crate) struct ElectionService(Arc<Leadership>);

impl ElectionService {
    pub(crate) fn new(leadership: Arc<Leadership>) -> MastersServer<Self> {
        MastersServer::new(Self(leadership))
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_REQUEST)
    }
}

#[async_trait]
impl masters_server::Masters for ElectionService {
    async fn lease(
        &self,
        request: Request<masters::LeaseRequest>,
    ) -> Result<Response<LeaseReply>, Status> {
        let request = request.into_inner();
        let known = self.0.masters();
        if request.masters != known {
            return Err(Status::failed_precondition(format!(
                "the masters differ: {} there, {} here",
                request.masters.join(" "),
                known.join(" ")
            )));
        }
        let purpose = match request.purpose() {
            masters::Purpose::Probe => Purpose::Probe,
            masters::Purpose::Vote => Purpose::Vote,
            masters::Purpose::Renew => Purpose::Renew,
            masters::Purpose::Resign => Purpose::Resign,
            masters::Purpose::Unknown => return Err(Status::invalid_argument("no purpose")),
        };
        if !known.contains(&request.address) {
            return Err(Status::invalid_argument("the caller is no master"));
        }
        let reply = self.0.on_request(&LeaseRequest {
            purpose,
            from: MasterId {
                address: request.address,
                incarnation: request.incarnation,
            },
            term: request.term,
            reserved: request.reserved,
        });
        Ok(Response::new(LeaseReply {
            granted: reply.granted,
            floor: reply.floor,
            promised: reply.promised,
        }))
    }
}
