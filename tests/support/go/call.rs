use prost::Message;
use tonic::Status;

use super::{MasterClient, channel, client, proto::*};

/// A call from one node to another, with the fields Go nano knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Register(MemberInfo),
    Unregister(String),
    Heartbeat(MemberInfo),
    New(MemberInfo),
    Del(String),
    Request(RequestMessage),
    Notify(NotifyMessage),
    Push(PushMessage),
    Response(ResponseMessage),
    SessionClosed(i64),
    CloseSession(i64),
}

impl Call {
    /// Decodes the call of this name. The bytes must be exactly what this crate encodes for it: the
    /// names and numbers are Go nano's.
    pub(crate) fn decode(method: &str, bytes: &[u8]) -> Self {
        match method {
            "Register" => Self::Register(
                exact::<RegisterRequest>(bytes)
                    .member_info
                    .unwrap_or_default(),
            ),
            "Unregister" => Self::Unregister(exact::<UnregisterRequest>(bytes).service_addr),
            "Heartbeat" => Self::Heartbeat(
                exact::<HeartbeatRequest>(bytes)
                    .member_info
                    .unwrap_or_default(),
            ),
            "NewMember" => Self::New(
                exact::<NewMemberRequest>(bytes)
                    .member_info
                    .unwrap_or_default(),
            ),
            "DelMember" => Self::Del(exact::<DelMemberRequest>(bytes).service_addr),
            "HandleRequest" => Self::Request(exact(bytes)),
            "HandleNotify" => Self::Notify(exact(bytes)),
            "HandlePush" => Self::Push(exact(bytes)),
            "HandleResponse" => Self::Response(exact(bytes)),
            "SessionClosed" => Self::SessionClosed(exact::<SessionClosedRequest>(bytes).session_id),
            "CloseSession" => Self::CloseSession(exact::<CloseSessionRequest>(bytes).session_id),
            other => panic!("no call of nano's: {other}"),
        }
    }

    /// Makes the call to the node at this address. Returns the members of the response, if any.
    pub(crate) async fn send(self, to: &str) -> Result<Vec<MemberInfo>, Status> {
        let known = |info: MemberInfo| Some(info).filter(|info| *info != MemberInfo::default());
        let (mut master, mut member) = (MasterClient::new(channel(to)), client(to));
        match self {
            Self::Register(info) => return register(to, info).await,
            Self::Unregister(service_addr) => drop(
                master
                    .unregister(UnregisterRequest {
                        service_addr,
                        incarnation: 0,
                    })
                    .await?,
            ),
            Self::Heartbeat(info) => drop(
                master
                    .heartbeat(HeartbeatRequest {
                        member_info: known(info),
                        digest: 0,
                        ..Default::default()
                    })
                    .await?,
            ),
            Self::New(info) => drop(
                member
                    .new_member(NewMemberRequest {
                        member_info: known(info),
                        ..Default::default()
                    })
                    .await?,
            ),
            Self::Del(service_addr) => drop(
                member
                    .del_member(DelMemberRequest {
                        service_addr,
                        incarnation: 0,
                        ..Default::default()
                    })
                    .await?,
            ),
            Self::Request(message) => drop(member.handle_request(message).await?),
            Self::Notify(message) => drop(member.handle_notify(message).await?),
            Self::Push(message) => drop(member.handle_push(message).await?),
            Self::Response(message) => drop(member.handle_response(message).await?),
            Self::SessionClosed(session_id) => drop(
                member
                    .session_closed(SessionClosedRequest { session_id })
                    .await?,
            ),
            Self::CloseSession(session_id) => drop(
                member
                    .close_session(CloseSessionRequest { session_id })
                    .await?,
            ),
        }
        Ok(Vec::new())
    }

    pub(crate) fn is_message(&self) -> bool {
        matches!(
            self,
            Self::Request(_)
                | Self::Notify(_)
                | Self::Push(_)
                | Self::Response(_)
                | Self::CloseSession(_)
        )
    }

    /// Whether it belongs to the data plane. Everything else is between a member and the master.
    pub(crate) fn is_traffic(&self) -> bool {
        self.is_message() || matches!(self, Self::SessionClosed(_))
    }

    /// The address in it.
    pub(crate) fn address(&mut self) -> Option<&mut String> {
        match self {
            Self::Register(info) | Self::Heartbeat(info) | Self::New(info) => {
                Some(&mut info.service_addr)
            }
            Self::Unregister(address) | Self::Del(address) => Some(address),
            Self::Request(RequestMessage { gate_addr, .. })
            | Self::Notify(NotifyMessage { gate_addr, .. }) => Some(gate_addr),
            _ => None,
        }
    }

    /// The id of the session it is about.
    pub(crate) fn session(&mut self) -> Option<&mut i64> {
        match self {
            Self::Request(RequestMessage { session_id, .. })
            | Self::Notify(NotifyMessage { session_id, .. })
            | Self::Push(PushMessage { session_id, .. })
            | Self::Response(ResponseMessage { session_id, .. })
            | Self::SessionClosed(session_id)
            | Self::CloseSession(session_id) => Some(session_id),
            _ => None,
        }
    }
}

pub(super) async fn register(master: &str, info: MemberInfo) -> Result<Vec<MemberInfo>, Status> {
    let request = RegisterRequest {
        member_info: Some(info).filter(|info| *info != MemberInfo::default()),
        ..Default::default()
    };
    let reply = MasterClient::new(channel(master))
        .register(request)
        .await?
        .into_inner();
    Ok(reply.members.into_iter().map(as_go_sees).collect())
}

/// Removes the fields that Go nano does not have.
pub(crate) fn as_go_sees(info: MemberInfo) -> MemberInfo {
    let MemberInfo {
        label,
        service_addr,
        services,
        unknown,
        ..
    } = info;
    MemberInfo {
        label,
        service_addr,
        services,
        unknown,
        ..MemberInfo::default()
    }
}

pub(crate) fn exact<T: Message + Default>(bytes: &[u8]) -> T {
    let message = T::decode(bytes).unwrap();
    assert_eq!(
        message.encode_to_vec(),
        bytes,
        "not exactly what was written"
    );
    message
}
