//! The calls of other nodes to the directory.

use std::sync::Arc;

use prost::Message;

use super::{
    driver::Directory,
    message::{GateRequest, Notice, OwnerRequest},
    view::NodeId,
    wire,
};
use crate::{
    cluster::{
        node_services::{NodeCall, NodeService, unknown},
        players::{
            ClaimRequest, CompareRequest, DirectoryNotice, LocateRequest, RecoverRequest,
            StepDownRequest,
        },
        user_ids::user,
    },
    error::{Error, Result, code},
    session::UserId,
};

/// The service that other nodes call.
pub(crate) struct DirectoryService(pub(crate) Arc<Directory>);

/// What another node wants.
enum Asked {
    Owner(NodeId, OwnerRequest),
    Gate(NodeId, GateRequest),
    Notices(NodeId, Vec<Notice>),
    Locate(Vec<UserId>),
}

impl NodeService for DirectoryService {
    fn answer(&self, method: &str, call: NodeCall) {
        match self.read(method, &call) {
            Ok(Asked::Owner(from, request)) => self.0.on_owner_call(&from, request, call),
            Ok(Asked::Gate(from, request)) => self.0.on_gate_call(&from, request, call),
            Ok(Asked::Notices(from, notices)) => self.0.on_notices(&from, notices),
            Ok(Asked::Locate(users)) => {
                let located = wire::located(self.0.locate(&users));
                call.respond(Ok(located.encode_to_vec().into()));
            }
            Err(error) => call.fail(error),
        }
    }
}

impl DirectoryService {
    /// # Errors
    /// The message is invalid, or for another run of this node.
    fn read(&self, method: &str, call: &NodeCall) -> Result<Asked> {
        Ok(match method {
            "Claim" => {
                let request: ClaimRequest = decode(call)?;
                let from = self.sender(call, request.from, request.to)?;
                Asked::Owner(from, wire::claim_request(&request)?)
            }
            "Compare" => {
                let request: CompareRequest = decode(call)?;
                let from = self.sender(call, request.from, request.to)?;
                Asked::Owner(from, wire::compare_request(&request))
            }
            "Notice" => {
                let message: DirectoryNotice = decode(call)?;
                let from = self.sender(call, message.from, message.to)?;
                Asked::Notices(from, wire::notices(&message)?)
            }
            "StepDown" => {
                let request: StepDownRequest = decode(call)?;
                let from = self.sender(call, request.from, request.to)?;
                Asked::Gate(from, wire::step_down_request(&request)?)
            }
            "Recover" => {
                let request: RecoverRequest = decode(call)?;
                let from = self.sender(call, request.from, request.to)?;
                Asked::Gate(from, wire::recover_request(&request))
            }
            "Locate" => {
                let request: LocateRequest = decode(call)?;
                let users = request.users.iter().map(|asked| user(Some(asked)));
                Asked::Locate(users.collect::<Result<_>>()?)
            }
            other => return Err(unknown(&format!("Directory.{other}"))),
        })
    }

    /// Returns the node that has sent a message.
    ///
    /// # Errors
    /// [`code::NOT_FOUND`] for a message for an earlier run of this node.
    fn sender(&self, call: &NodeCall, from: u64, to: u64) -> Result<NodeId> {
        if to != self.0.own().incarnation {
            return Err(Error::new(code::NOT_FOUND, "the node has restarted"));
        }
        Ok(NodeId {
            address: call.from.clone(),
            incarnation: from,
        })
    }
}

fn decode<Request: Message + Default>(call: &NodeCall) -> Result<Request> {
    Request::decode(call.body.clone())
        .map_err(|error| Error::bad_request("invalid message of another node").with_source(error))
}
