//! Applies what a link decides, as a node does, and checks each effect.

use rand::RngExt;

use super::{event::Event, node::Handle, world::World};
use crate::cluster::link::{
    activity::OpenCalls,
    effect::Effect,
    proto::{Frame, Kind},
    session::LinkedSession,
};

impl World {
    pub(super) fn apply(&mut self, node: usize, index: usize, effects: Vec<Effect<Handle>>) {
        for effect in effects {
            match effect {
                Effect::Deliver {
                    session,
                    request,
                    body,
                    ..
                } => {
                    let drained = self.nodes[node].links[index].is_drained();
                    assert!(!drained, "a message behind DRAINED");
                    let number = u64::from_le_bytes(body[..].try_into().unwrap());
                    if request != 0 {
                        assert_eq!(request, number);
                    }
                    self.nodes[node].deliver(&session, number);
                    let incarnation = self.nodes[node].incarnation;
                    let takes = self.random.random_range(0..300);
                    self.later(
                        takes,
                        Event::Handled {
                            node,
                            incarnation,
                            session,
                            request,
                        },
                    );
                }
                Effect::Respond { session, .. } => {
                    self.nodes[node].end_request(session.id, session.request);
                }
                Effect::FailRequests { session, requests } => {
                    for request in requests {
                        self.trouble("request failed");
                        self.nodes[node].end_request(session.id, request);
                    }
                }
                Effect::EndSession { session, .. } => self.nodes[node].end(&session),
                Effect::Bind {
                    session: Some(session),
                    user,
                    ..
                } => {
                    if let Some(user) = user {
                        session.rebind(user);
                    }
                    self.nodes[node].links[index].session_bound(&session);
                }
                Effect::Route {
                    session, address, ..
                } => {
                    if let (Some(session), Some(address)) = (session, address) {
                        session.route.set(address.parse().unwrap());
                    }
                }
                Effect::Share {
                    session: Some(session),
                    values,
                    ..
                } => {
                    for value in values {
                        let json = (!value.value.is_empty()).then_some(value.value);
                        session.shared().set(&value.key, json).unwrap();
                        self.nodes[node].links[index].session_shared(&session, &value.key);
                    }
                }
                Effect::Gate {
                    session: Some(session),
                    frame,
                } => self.gate(node, &session, &frame),
                Effect::PeerIdle => {
                    let this = &mut self.nodes[node];
                    let calls = OpenCalls {
                        sent: this.calls.values().any(|of| *of == index),
                        served: this.served_calls.values().any(|of| *of == index),
                    };
                    this.links[index].peer_idle(calls);
                }
                Effect::PeerSuspected => self.trouble("suspected"),
                Effect::InboundClosed => {
                    self.trouble("dead peer");
                    self.break_pipe(1 - node, index);
                }
                Effect::Detached { .. } => self.trouble("detached"),
                Effect::Refused(_) => self.trouble("overtaken"),
                Effect::NodeCall { frame, .. } if frame.request == 0 => {
                    let number = u64::from_le_bytes(frame.body[..].try_into().unwrap());
                    self.one_way_arrived(1 - node, index, number);
                }
                Effect::UserPush(frame) => self.user_push_arrived(node, index, &frame),
                Effect::UserPushesEnded(ended) => {
                    for (done, unreached) in ended {
                        done.send(unreached).unwrap();
                    }
                }
                Effect::DeliverCall { frame, .. } | Effect::NodeCall { frame, .. } => {
                    self.serve_call(node, index, frame.request)
                }
                Effect::Reply(frame) => self.replied(node, frame.request),
                Effect::CancelCall(call) => {
                    self.nodes[node].served_calls.remove(&call);
                }
                Effect::CancelCalls => self.cancel_served(node, index),
                Effect::FailCalls => self.fail_calls(node, index),
                Effect::Multicast { .. } => unreachable!("never sent"),
                Effect::Bind { .. }
                | Effect::Gate { .. }
                | Effect::Share { .. }
                | Effect::Unbind(_)
                | Effect::PeerDraining
                | Effect::RequestTimed { .. }
                | Effect::PingTimed(_)
                | Effect::Wake(_) => {}
            }
        }
    }

    /// A frame of a member for a client.
    fn gate(&mut self, node: usize, session: &Handle, frame: &Frame) {
        if frame.kind() != Kind::Push {
            return self.close(node, session.id);
        }
        let number = u64::from_le_bytes(frame.body[..].try_into().unwrap());
        let client = self.nodes[node].clients.get_mut(&session.id).unwrap();
        // A member that was started again counts anew.
        assert!(
            client.pushed < number || number < 50 && self.known[node] > 1,
            "session {}: push {number} behind {}",
            session.id,
            client.pushed
        );
        client.pushed = number;
    }
}
