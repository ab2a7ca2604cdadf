//! The gRPC services that other nodes call: `clusterpb.Master` on a master, `clusterpb.Member` on
//! every node.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, async_trait};
use tracing::warn;

use super::{
    forward::{Forwarder, passed_on},
    heartbeat::ViewStamp,
    registry::{Refusal, not_registered},
    state::ClusterState,
};
use crate::cluster::{
    compat::service::CompatService,
    proto::{self, InvalidMember, *},
};

/// What a master serves: registrations, heartbeats and unregistrations. While another master leads,
/// calls are passed on to it.
pub(crate) struct MasterService {
    state: Arc<ClusterState>,
    forwarder: Forwarder,
}

impl MasterService {
    pub(crate) fn new(state: Arc<ClusterState>) -> Self {
        Self {
            forwarder: Forwarder::new(&state),
            state,
        }
    }

    /// Notes the highest number that a member has seen, as it says.
    fn observe(&self, seen: u64) {
        if let Some(leadership) = self.state.leadership() {
            leadership.observe(seen, self.state.latest_view());
        }
    }
}

#[async_trait]
impl master_server::Master for MasterService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.observe(request.get_ref().seen);
        if let Some(mut leader) = self.forwarder.leader(&request)? {
            let reply = leader.register(passed_on(request)).await;
            return reply.inspect_err(|_| self.forwarder.reconnect());
        }
        let member = proto::member(request.into_inner().member_info).map_err(|invalid| {
            self.state
                .invalid_member("invalid register request", &invalid)
        })?;
        let is_basic = member.is_basic();
        let (table, term) = self
            .state
            .register(member)
            .map_err(|refusal| self.state.refused(&refusal, ""))?;
        Ok(Response::new(RegisterResponse {
            members: proto::infos(&table),
            term: if is_basic { 0 } else { term },
        }))
    }

    async fn unregister(
        &self,
        request: Request<UnregisterRequest>,
    ) -> Result<Response<UnregisterResponse>, Status> {
        if let Some(mut leader) = self.forwarder.leader(&request)? {
            let reply = leader.unregister(passed_on(request)).await;
            return reply.inspect_err(|_| self.forwarder.reconnect());
        }
        let UnregisterRequest {
            service_addr,
            incarnation,
        } = request.into_inner();
        if service_addr.is_empty() {
            return Err(self.state.malformed("invalid register request"));
        }
        self.state
            .clone()
            .unregister(&service_addr, incarnation)
            .await
            .map_err(|refusal| self.state.refused(&refusal, &service_addr))?;
        Ok(Response::new(UnregisterResponse {}))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        self.observe(request.get_ref().seen);
        if let Some(mut leader) = self.forwarder.leader(&request)? {
            let reply = leader.heartbeat(passed_on(request)).await;
            return reply.inspect_err(|_| self.forwarder.reconnect());
        }
        let HeartbeatRequest {
            member_info,
            digest,
            seen: _,
        } = request.into_inner();
        let member = proto::member(member_info).map_err(|invalid| {
            self.state
                .invalid_member("invalid heartbeat request", &invalid)
        })?;
        let is_basic = member.is_basic();
        let (reply, term) = self
            .state
            .heartbeat(member.clone(), digest)
            .map_err(|refusal| self.state.refused(&refusal, ""))?;
        if reply.returns {
            warn!(
                member = member.address(),
                label = member.label(),
                eviction_timeout = ?reply.eviction,
                "evicted member returned: it was suspended, was cut off, or sends heartbeats too slowly"
            );
        }
        // Basic members get the empty response they know.
        let (incarnation, view, term, eviction) = match is_basic {
            true => (0, ViewStamp::default(), 0, Duration::ZERO),
            false => {
                let incarnation = self.state.own.incarnation();
                (incarnation, reply.view, term, reply.eviction)
            }
        };
        Ok(Response::new(HeartbeatResponse {
            members: proto::infos(&reply.table),
            replace: reply.replace,
            incarnation,
            view: view.number,
            view_digest: view.digest,
            term,
            eviction_ms: eviction.as_millis() as u64,
        }))
    }
}

/// What every node serves: the master's announcements, and the traffic of basic members.
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

    /// Writes the table and waits for nothing: a basic master, and its whole cluster with it, waits
    /// for the response.
    async fn new_member(
        &self,
        request: Request<NewMemberRequest>,
    ) -> Result<Response<NewMemberResponse>, Status> {
        let NewMemberRequest {
            member_info,
            term,
            leads,
        } = request.into_inner();
        let member = proto::member(member_info).map_err(|invalid| {
            self.state
                .invalid_member("invalid new member request", &invalid)
        })?;
        match self.state.on_member_added(member, term, leads) {
            true => Ok(Response::new(NewMemberResponse {})),
            false => Err(self.state.superseded_master()),
        }
    }

    async fn del_member(
        &self,
        request: Request<DelMemberRequest>,
    ) -> Result<Response<DelMemberResponse>, Status> {
        let DelMemberRequest {
            service_addr,
            incarnation,
            term,
            evicted,
        } = request.into_inner();
        let is_accepted = self
            .state
            .on_member_removed(&service_addr, (incarnation, evicted), term);
        match is_accepted {
            true => Ok(Response::new(DelMemberResponse {})),
            false => Err(self.state.superseded_master()),
        }
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

/// Refusals, with the status codes and texts that basic members know.
impl ClusterState {
    fn malformed(&self, message: &str) -> Status {
        self.metrics.malformed.increment(1);
        Status::unknown(message)
    }

    fn superseded_master(&self) -> Status {
        self.metrics.refused.increment(1);
        Status::failed_precondition("a later master leads")
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
            Refusal::NotRegistered => Status::unknown(not_registered(address)),
            Refusal::NotLeading => Status::unavailable("another master leads, or none"),
            Refusal::Full => Status::resource_exhausted("the register of members is full"),
        }
    }
}
