//! The gRPC services that other nodes call: `clusterpb.Master` on a master, `clusterpb.Member` on
//! every node.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use tracing::warn;

use super::{heartbeat::ViewStamp, registry::Refusal, state::ClusterState};
use crate::cluster::{
    compat::service::CompatService,
    proto::{self, InvalidMember, *},
};

/// What a master serves: registrations, heartbeats and unregistrations.
pub(crate) struct MasterService(pub(crate) Arc<ClusterState>);

#[async_trait]
impl master_server::Master for MasterService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let member = proto::member(request.into_inner().member_info)
            .map_err(|invalid| self.0.invalid_member("invalid register request", &invalid))?;
        let table = self
            .0
            .register(member)
            .map_err(|refusal| self.0.refused(&refusal, ""))?;
        Ok(Response::new(RegisterResponse {
            members: proto::infos(&table),
        }))
    }

    async fn unregister(
        &self,
        request: Request<UnregisterRequest>,
    ) -> Result<Response<UnregisterResponse>, Status> {
        let UnregisterRequest {
            service_addr,
            incarnation,
        } = request.into_inner();
        if service_addr.is_empty() {
            return Err(self.0.malformed("invalid register request"));
        }
        self.0
            .clone()
            .unregister(&service_addr, incarnation)
            .await
            .map_err(|refusal| self.0.refused(&refusal, &service_addr))?;
        Ok(Response::new(UnregisterResponse {}))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let HeartbeatRequest {
            member_info,
            digest,
        } = request.into_inner();
        let member = proto::member(member_info)
            .map_err(|invalid| self.0.invalid_member("invalid heartbeat request", &invalid))?;
        let is_go = member.is_go();
        let reply = self
            .0
            .heartbeat(member, digest)
            .map_err(|refusal| self.0.refused(&refusal, ""))?;
        // Go members get the empty response they know.
        let (incarnation, view) = match is_go {
            true => (0, ViewStamp::default()),
            false => (self.0.own.incarnation(), reply.view),
        };
        Ok(Response::new(HeartbeatResponse {
            members: proto::infos(&reply.table),
            replace: reply.replace,
            incarnation,
            view: view.number,
            view_digest: view.digest,
        }))
    }
}

/// What every node serves: the master's announcements, and the traffic of Go nodes.
pub(crate) struct MemberService {
    pub(crate) state: Arc<ClusterState>,
    pub(crate) data: CompatService,
}

#[async_trait]
impl member_server::Member for MemberService {
    async fn handle_request(
        &self,
        request: Request<RequestMessage>,
    ) -> Result<Response<MemberHandleResponse>, Status> {
        self.data
            .handle_request(request.into_inner())
            .await
            .map(|()| Response::new(MemberHandleResponse {}))
    }

    async fn handle_notify(
        &self,
        request: Request<NotifyMessage>,
    ) -> Result<Response<MemberHandleResponse>, Status> {
        self.data
            .handle_notify(request.into_inner())
            .await
            .map(|()| Response::new(MemberHandleResponse {}))
    }

    async fn handle_push(
        &self,
        request: Request<PushMessage>,
    ) -> Result<Response<MemberHandleResponse>, Status> {
        self.data
            .handle_push(request.into_inner())
            .await
            .map(|()| Response::new(MemberHandleResponse {}))
    }

    async fn handle_response(
        &self,
        request: Request<ResponseMessage>,
    ) -> Result<Response<MemberHandleResponse>, Status> {
        self.data
            .handle_response(request.into_inner())
            .await
            .map(|()| Response::new(MemberHandleResponse {}))
    }

    /// Writes the table and waits for nothing: a Go master, and its whole cluster with it, waits
    /// for the response.
    async fn new_member(
        &self,
        request: Request<NewMemberRequest>,
    ) -> Result<Response<NewMemberResponse>, Status> {
        let member = proto::member(request.into_inner().member_info).map_err(|invalid| {
            self.state
                .invalid_member("invalid new member request", &invalid)
        })?;
        self.state.on_member_added(member);
        Ok(Response::new(NewMemberResponse {}))
    }

    async fn del_member(
        &self,
        request: Request<DelMemberRequest>,
    ) -> Result<Response<DelMemberResponse>, Status> {
        let DelMemberRequest {
            service_addr,
            incarnation,
        } = request.into_inner();
        self.state.on_member_removed(&service_addr, incarnation);
        Ok(Response::new(DelMemberResponse {}))
    }

    async fn session_closed(
        &self,
        request: Request<SessionClosedRequest>,
    ) -> Result<Response<SessionClosedResponse>, Status> {
        self.data.session_closed(request.into_inner().session_id);
        Ok(Response::new(SessionClosedResponse {}))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        self.data.close_session(request.into_inner().session_id);
        Ok(Response::new(CloseSessionResponse {}))
    }
}

/// Refusals, with the status codes and texts of Go nano where it has them.
impl ClusterState {
    fn malformed(&self, message: &str) -> Status {
        self.metrics.malformed.increment(1);
        Status::unknown(message)
    }

    fn invalid_member(&self, text: &str, invalid: &InvalidMember) -> Status {
        self.metrics.malformed.increment(1);
        warn!(reason = invalid.reason(), "{text}");
        invalid.status(text)
    }

    fn refused(&self, refusal: &Refusal, address: &str) -> Status {
        self.metrics.refused.increment(1);
        match refusal {
            Refusal::Superseded => Status::already_exists("address claimed by a newer incarnation"),
            Refusal::NotRegistered => {
                Status::unknown(format!("address {address} has not registered"))
            }
            Refusal::Full => Status::resource_exhausted("the register of members is full"),
        }
    }
}
