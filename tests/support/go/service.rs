use std::sync::{Arc, atomic::Ordering::SeqCst};

use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status, async_trait};

use super::{Call, State, as_go_sees, proto::*};

pub(super) struct Service(pub(super) Arc<State>);

type Reply<T> = Result<Response<T>, Status>;

impl Service {
    async fn note<T>(&self, call: Call, reply: T) -> Reply<T> {
        let State {
            manners,
            calls,
            arrived,
            ..
        } = &*self.0;
        if manners.dead.load(SeqCst) {
            return Err(Status::unavailable("dead"));
        }
        calls.lock().push((Instant::now(), call));
        arrived.notify_waiters();
        while manners.hangs.load(SeqCst) {
            manners.woken.notified().await;
        }
        Ok(Response::new(reply))
    }

    async fn message(&self, call: Call) -> Reply<MemberHandleResponse> {
        let manners = &self.0.manners;
        let now = manners.under_way.fetch_add(1, SeqCst) + 1;
        manners.most.fetch_max(now, SeqCst);
        let reply = self.note(call, MemberHandleResponse {}).await;
        let delay = *manners.delay.lock();
        sleep(delay).await;
        manners.under_way.fetch_sub(1, SeqCst);
        let refusal = manners.refusal.lock().clone();
        refusal.map_or(reply, Err)
    }
}

#[async_trait]
impl master_server::Master for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Reply<RegisterResponse> {
        let members = self.0.table.lock().clone();
        let info = request.into_inner().member_info.unwrap();
        self.note(
            Call::Register(as_go_sees(info)),
            RegisterResponse {
                members,
                ..Default::default()
            },
        )
        .await
    }

    async fn unregister(&self, request: Request<UnregisterRequest>) -> Reply<UnregisterResponse> {
        self.note(
            Call::Unregister(request.into_inner().service_addr),
            UnregisterResponse {},
        )
        .await
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Reply<HeartbeatResponse> {
        let info = request.into_inner().member_info.unwrap();
        self.note(
            Call::Heartbeat(as_go_sees(info)),
            HeartbeatResponse::default(),
        )
        .await
    }
}

#[async_trait]
impl member_server::Member for Service {
    async fn new_member(&self, request: Request<NewMemberRequest>) -> Reply<NewMemberResponse> {
        let info = as_go_sees(request.into_inner().member_info.unwrap());
        self.0.table.lock().push(info.clone());
        self.note(Call::New(info), NewMemberResponse {}).await
    }

    async fn del_member(&self, request: Request<DelMemberRequest>) -> Reply<DelMemberResponse> {
        let address = request.into_inner().service_addr;
        {
            let mut table = self.0.table.lock();
            if let Some(at) = table.iter().position(|info| info.service_addr == address) {
                table.remove(at);
            }
        }
        self.note(Call::Del(address), DelMemberResponse {}).await
    }

    async fn handle_request(
        &self,
        request: Request<RequestMessage>,
    ) -> Reply<MemberHandleResponse> {
        self.message(Call::Request(request.into_inner())).await
    }

    async fn handle_notify(&self, request: Request<NotifyMessage>) -> Reply<MemberHandleResponse> {
        self.message(Call::Notify(request.into_inner())).await
    }

    async fn handle_push(&self, request: Request<PushMessage>) -> Reply<MemberHandleResponse> {
        self.message(Call::Push(request.into_inner())).await
    }

    async fn handle_response(
        &self,
        request: Request<ResponseMessage>,
    ) -> Reply<MemberHandleResponse> {
        self.message(Call::Response(request.into_inner())).await
    }

    async fn session_closed(
        &self,
        request: Request<SessionClosedRequest>,
    ) -> Reply<SessionClosedResponse> {
        self.note(
            Call::SessionClosed(request.into_inner().session_id),
            SessionClosedResponse {},
        )
        .await
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Reply<CloseSessionResponse> {
        self.note(
            Call::CloseSession(request.into_inner().session_id),
            CloseSessionResponse {},
        )
        .await
    }
}
