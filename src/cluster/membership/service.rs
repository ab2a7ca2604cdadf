//! What other nodes call: the services of nano's protocol.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use tonic::{Request, Response, Status, async_trait, service::Interceptor};
use tracing::warn;

use super::{registry::Refusal, state::ClusterState};
use crate::cluster::channel::Credentials;
use crate::cluster::proto::{self, *};
use crate::{member::Member, metrics::ClusterMetrics};

/// The traffic of sessions between nodes, as nano's protocol carries it.
///
/// Whatever it answers, it answers soon: nodes of Go nano wait for it without a deadline, some of
/// them with everything they do.
#[async_trait]
pub(crate) trait DataPlane: Send + Sync + 'static {
    async fn handle_request(&self, message: RequestMessage) -> Result<(), Status>;
    async fn handle_notify(&self, message: NotifyMessage) -> Result<(), Status>;
    async fn handle_push(&self, message: PushMessage) -> Result<(), Status>;
    async fn handle_response(&self, message: ResponseMessage) -> Result<(), Status>;
    async fn session_closed(&self, session: i64) -> Result<(), Status>;
    async fn close_session(&self, session: i64) -> Result<(), Status>;

    /// Somebody joined, and is in the table by now. Called in the order of the table's changes, so
    /// it must not wait.
    fn member_joined(&self, member: &Member);
    /// Somebody left, and is no longer in the table. Called as
    /// [`member_joined`](DataPlane::member_joined).
    fn member_left(&self, member: &Member);
}

/// The services of a master.
pub(in crate::cluster) struct MasterService(pub(in crate::cluster) Arc<ClusterState>);

#[async_trait]
impl master_server::Master for MasterService {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let member = proto::member(request.into_inner().member_info)
            .map_err(|_| self.0.malformed("invalid register request"))?;
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
            .map_err(|_| self.0.malformed("invalid heartbeat request"))?;
        let is_go = member.is_go();
        let pulse = self
            .0
            .heartbeat(member, digest)
            .map_err(|refusal| self.0.refused(&refusal, ""))?;
        // Nodes of Go nano get the empty answer they expect.
        let incarnation = if is_go { 0 } else { self.0.own.incarnation() };
        Ok(Response::new(HeartbeatResponse {
            members: proto::infos(&pulse.table),
            replace: pulse.replace,
            incarnation,
        }))
    }
}

/// The services of every node.
pub(in crate::cluster) struct MemberService {
    pub(in crate::cluster) core: Arc<ClusterState>,
    pub(in crate::cluster) data: Arc<dyn DataPlane>,
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

    /// Only writes the table: a master of Go nano waits for the answer, and its whole cluster with
    /// it.
    async fn new_member(
        &self,
        request: Request<NewMemberRequest>,
    ) -> Result<Response<NewMemberResponse>, Status> {
        let member = proto::member(request.into_inner().member_info)
            .map_err(|_| self.core.malformed("invalid new member request"))?;
        self.core.told_of(member);
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
        self.core.told_gone(&service_addr, incarnation);
        Ok(Response::new(DelMemberResponse {}))
    }

    async fn session_closed(
        &self,
        request: Request<SessionClosedRequest>,
    ) -> Result<Response<SessionClosedResponse>, Status> {
        self.data
            .session_closed(request.into_inner().session_id)
            .await
            .map(|()| Response::new(SessionClosedResponse {}))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        self.data
            .close_session(request.into_inner().session_id)
            .await
            .map(|()| Response::new(CloseSessionResponse {}))
    }
}

/// Nobody calls uninvited: every call must show the cluster's token, if it has one.
#[derive(Clone)]
pub(in crate::cluster) struct Guard {
    pub(in crate::cluster) credentials: Credentials,
    pub(in crate::cluster) metrics: Arc<ClusterMetrics>,
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.credentials.0 else {
            return Ok(request);
        };
        let shown = request
            .metadata()
            .get("authorization")
            .map(|value| value.as_encoded_bytes())
            .unwrap_or_default();
        // In a time that does not tell how much of it was right.
        if bool::from(shown.ct_eq(token.as_encoded_bytes())) {
            return Ok(request);
        }
        self.metrics.unauthenticated.increment(1);
        let what = if shown.is_empty() {
            "no cluster token"
        } else {
            "a wrong cluster token"
        };
        warn!(peer = ?request.remote_addr(), "refused a call with {what}");
        Err(Status::unauthenticated(format!(
            "{what}: this cluster asks for one"
        )))
    }
}

/// Refusals as nodes of Go nano know them, where they do.
impl ClusterState {
    fn malformed(&self, message: &str) -> Status {
        self.metrics.malformed.increment(1);
        Status::unknown(message)
    }

    fn refused(&self, refusal: &Refusal, address: &str) -> Status {
        self.metrics.refused.increment(1);
        match refusal {
            Refusal::Superseded => {
                Status::already_exists("another node has this address, and was started later")
            }
            Refusal::NotRegistered => {
                Status::unknown(format!("address {address} has not registered"))
            }
            Refusal::Full => Status::resource_exhausted("no room for another member"),
        }
    }
}
