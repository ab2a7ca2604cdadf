//! What clients and handlers do, and what goes wrong: the choices that follow from the seed.

use bytes::Bytes;
use rand::RngExt;

use super::{
    event::Event,
    node::{Client, Handle},
    world::World,
};
use crate::{
    cluster::link::{
        config::{STREAMS, stream_index},
        proto::{Frame, Kind},
        sender::Blocked,
        session::LinkedSession,
    },
    session::{CloseReason, UserId},
};

impl World {
    pub(super) fn act(&mut self) {
        let (node, index) = (
            self.random.random_range(0..2),
            self.random.random_range(0..2),
        );
        match self.random.random_range(0..1000) {
            0..670 => self.send(node),
            670..700 => self.share(node),
            700..780 => self.push(node),
            780..795 => self.bind(node),
            795..800 => self.route(node),
            800..815 => self.close_client(node),
            815..825 => self.close_served(node),
            825..830 => {
                self.trouble("lost stream");
                self.break_pipe(node, index);
            }
            830..832 => self.half_open(node, index),
            832..833 => {
                let incarnation = self.nodes[node].incarnation;
                self.restart(node, incarnation);
            }
            833..834 => self.drain(node),
            834..836 => self.begin_anew(node),
            836..896 => self.call(node, index),
            896..916 => self.cancel_one(node),
            916..956 => self.call_one_way(node, index),
            956..986 => self.push_to_users(node, index),
            _ => {}
        }
    }

    fn client(&mut self, node: usize) -> i64 {
        let clients = &self.nodes[node].clients;
        if clients.len() < 6 && self.random.random_bool(0.2) || clients.is_empty() {
            self.last_id += 1;
            let client = Client {
                session: Handle::new(self.last_id, 0),
                sent: 0,
                pushed: 0,
                requests: Default::default(),
            };
            self.nodes[node].clients.insert(self.last_id, client);
            return self.last_id;
        }
        let at = self.random.random_range(0..clients.len());
        *clients.keys().nth(at).unwrap()
    }

    fn send(&mut self, node: usize) {
        let id = self.client(node);
        let client = self.nodes[node].clients.get_mut(&id).unwrap();
        client.sent += 1;
        let (session, number) = (client.session.clone(), client.sent);
        let request = if self.random.random_bool(0.5) {
            number
        } else {
            0
        };
        if request != 0 {
            client.requests.insert(request);
        }
        let mut refused = false;
        self.input(node, stream_index(id), |link, _| {
            let frame = |()| {
                let body = Bytes::copy_from_slice(&number.to_le_bytes());
                Frame::message(Kind::Message, id, request, "Room.Say".into(), body)
            };
            match link.message(&session, (), frame) {
                Ok(_) => {}
                Err(Blocked::Refused(_) | Blocked::Draining(()) | Blocked::Full(())) => {
                    refused = true;
                }
            }
        });
        if refused {
            self.trouble("refused message");
            if request != 0 {
                self.nodes[node].end_request(id, request);
            }
        }
    }

    fn served(&mut self, node: usize) -> Option<Handle> {
        let served = &self.nodes[node].served;
        if served.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..served.len());
        served.values().nth(at).cloned()
    }

    fn push(&mut self, node: usize) {
        let Some(session) = self.served(node) else {
            return;
        };
        let number = self.nodes[node].next_push(session.id);
        self.input(node, stream_index(session.id), |link, _| {
            let body = Bytes::copy_from_slice(&number.to_le_bytes());
            let frame = Frame::push(session.id, Vec::new(), "on", body);
            // A session that is closing takes nothing more.
            let _ = link.push(session.id, session.key, frame);
        });
    }

    /// A handler binds a session, or its gate does.
    fn bind(&mut self, node: usize) {
        let number = self.random.random_range(0..1000);
        let user = match self.random.random_range(0..3) {
            0 => UserId::of_parts(0, &format!("user {number}")),
            _ => UserId::of_parts(number, ""),
        };
        if self.random.random_bool(0.5) {
            if let Some(session) = self.served(node) {
                self.input(node, stream_index(session.id), |link, _| {
                    let _ = link.bind(&session, session.key, user);
                });
            }
        } else {
            let id = self.client(node);
            let session = self.nodes[node].clients[&id].session.clone();
            session.rebind(user);
            self.input(node, stream_index(id), |link, _| {
                link.session_bound(&session);
            });
        }
    }

    /// A handler binds the session's service to another member.
    fn route(&mut self, node: usize) {
        let address: u32 = self.random.random_range(1..1000);
        if let Some(session) = self.served(node) {
            self.trouble("routed");
            self.input(node, stream_index(session.id), |link, _| {
                let address = address.to_string();
                let sent = link.route(session.id, session.key, "Room", Some(&address));
                if sent.is_ok() {
                    session.route.set(address.parse().unwrap());
                }
            });
        }
    }

    /// A handler changes a shared value of a session, or its gate does.
    fn share(&mut self, node: usize) {
        let key = ["a", "b", "c"][self.random.random_range(0..3)];
        let value: u32 = self.random.random_range(0..1000);
        let value = (value > 200).then(|| Bytes::from(value.to_string()));
        if self.random.random_bool(0.5) {
            if let Some(session) = self.served(node) {
                self.trouble("shared");
                self.input(node, stream_index(session.id), |link, _| {
                    // A session that is closing takes nothing more.
                    let _ = link.share(&session, session.key, key, value);
                });
            }
        } else {
            let id = self.client(node);
            let session = self.nodes[node].clients[&id].session.clone();
            session.shared().set(key, value).unwrap();
            self.input(node, stream_index(id), |link, _| {
                link.session_shared(&session, key);
            });
        }
    }

    fn close_client(&mut self, node: usize) {
        let id = self.client(node);
        self.close(node, id);
    }

    pub(super) fn close(&mut self, node: usize, id: i64) {
        // Its requests end with its connection.
        let Some(client) = self.nodes[node].clients.remove(&id) else {
            return;
        };
        client.session.close();
        self.input(node, stream_index(id), |link, _| {
            link.session_closed(&client.session, &CloseReason::Client, false);
        });
    }

    fn close_served(&mut self, node: usize) {
        if let Some(session) = self.served(node) {
            self.trouble("closed by the member");
            self.input(node, stream_index(session.id), |link, _| {
                let reason = CloseReason::Closed("enough".to_owned());
                let _ = link.close_session(session.id, session.key, reason);
            });
        }
    }

    /// One stream carries nothing any more, and its opener learns of it late.
    fn half_open(&mut self, node: usize, index: usize) {
        let Some(pipe) = self.pipes.get_mut(&(node, index)) else {
            return;
        };
        if pipe.up && !pipe.dead {
            pipe.dead = true;
            self.lossy.insert((node, index));
            let number = pipe.number;
            self.trouble("half-open");
            let noticed = self.random.random_range(1_000..5_000);
            self.later(
                noticed,
                Event::OutboundBroken {
                    node,
                    index,
                    number,
                },
            );
        }
    }

    /// A node asks for no new messages, and stops a while later.
    fn drain(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].stopping, true) {
            return;
        }
        self.trouble("draining");
        for index in 0..STREAMS {
            self.input(node, index, |link, _| {
                link.goaway(true);
            });
        }
        let incarnation = self.nodes[node].incarnation;
        self.later(2_000, Event::Restart { node, incarnation });
    }

    pub(super) fn handled(&mut self, node: usize, session: &Handle, request: u64) {
        self.input(node, stream_index(session.id), |link, _| {
            if request != 0 {
                // The session may have ended.
                let _ = link.respond(session.id, session.key, request, || Ok(Bytes::new()));
            }
            link.finished(session.id, session.key);
        });
    }
}
