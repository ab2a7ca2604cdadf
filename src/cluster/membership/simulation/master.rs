//! The simulated master: the real register, queues and table, without their tasks.

use std::{collections::HashMap, time::Duration};

use super::{Asked, Event, HEARTBEAT, MASTER, Node, Party, Run, World, member};
use crate::{
    cluster::{
        channel::CALL_TIMEOUT,
        membership::{
            registration::{Answer, Call},
            registry::{Departure, News, Registry, Rhythm},
            table::{Change, Members},
            updates::{Announcement, Queue},
        },
    },
    member::Member,
};

pub(super) struct Master {
    run: Run,
    pub(super) registry: Registry,
    pub(super) members: Members,
    peers: HashMap<u64, Peer>,
}

struct Peer {
    address: String,
    queue: Queue,
    /// The attempt under way.
    sent: Option<u64>,
}

impl World {
    pub(super) fn start_master(&mut self) {
        self.count += 1;
        let own = member(MASTER, self.count);
        let registry = Registry::new(own, Rhythm::new(HEARTBEAT), self.now);
        let (run, interval) = (self.count, registry.interval());
        self.paused.remove(&Party::Master);
        self.master = Some(Master {
            run,
            registry,
            members: Members::new(MASTER),
            peers: HashMap::new(),
        });
        self.later(interval, Event::Tick { run });
    }

    pub(super) fn tick(&mut self, run: Run) {
        let Some(master) = self.master.as_mut().filter(|master| master.run == run) else {
            return;
        };
        let (silent, interval) = (master.registry.tick(self.now), master.registry.interval());
        self.troubles.evictions += u32::try_from(silent.len()).unwrap();
        silent.iter().for_each(|departure| self.depart(departure));
        self.later(interval, Event::Tick { run });
    }

    fn depart(&mut self, departure: &Departure) {
        let mut news = News::default();
        if let Some(master) = &mut self.master {
            master.registry.remove(departure, self.now, &mut news);
        }
        self.publish(&news);
    }

    pub(super) fn asked(&mut self, node: usize, run: Run, call: u64, member: Member, what: Asked) {
        // A run that is gone may still be heard, and its incarnation tells it from the next one. Go
        // nano's have none, so there it cannot be told.
        if matches!(&self.nodes[node], Some(Node::Go(go)) if go.run() != run) {
            return;
        }
        // Nobody listens: the caller waits in vain.
        let Some(master) = &mut self.master else {
            return;
        };
        let (registry, now, mut news) = (&mut master.registry, self.now, News::default());
        let answer = match what {
            Asked::Call(Call::Register) => registry
                .register(member, now, &mut news)
                .map(Answer::Registered),
            Asked::Call(Call::Heartbeat { digest }) => {
                let own = registry.own().incarnation();
                registry
                    .heartbeat(member, digest, now, &mut news)
                    .map(|pulse| Answer::Beaten { pulse, master: own })
            }
            Asked::Goodbye => {
                if let Ok(Some(departure)) =
                    registry.unregister(member.address(), member.incarnation())
                {
                    self.depart(&departure);
                }
                return;
            }
        };
        self.publish(&news);
        self.send(
            node,
            Event::Answered {
                node,
                run,
                call,
                answer,
            },
        );
    }

    fn publish(&mut self, news: &News) {
        let Some(master) = &mut self.master else {
            return;
        };
        let mut former = None;
        for change in &news.changes {
            match change {
                Change::Joined(member) => {
                    master.members.join(member.clone());
                    master.peers.values_mut().for_each(|peer| {
                        assert!(peer.queue.push(Announcement::New(member.clone())))
                    });
                    self.count += 1;
                    let queue = Queue::succeeding(former.take(), news.knowledge(member));
                    master.peers.insert(
                        self.count,
                        Peer {
                            address: member.address().to_owned(),
                            queue,
                            sent: None,
                        },
                    );
                }
                Change::Left(member) => {
                    let (address, incarnation) =
                        (member.address().to_owned(), member.incarnation());
                    master.members.leave(&address, incarnation);
                    former = master
                        .peers
                        .extract_if(|_, peer| peer.address == address)
                        .next()
                        .map(|(_, peer)| peer.queue);
                    let gone = Announcement::Del {
                        address,
                        incarnation,
                    };
                    master
                        .peers
                        .values_mut()
                        .for_each(|peer| assert!(peer.queue.push(gone.clone())));
                }
            }
        }
        if let Some((address, missed)) = &news.returned {
            let peer = master
                .peers
                .values_mut()
                .find(|peer| peer.address == *address)
                .unwrap();
            missed
                .iter()
                .for_each(|missed| assert!(peer.queue.push(missed.clone())));
        }
        let mut idle: Vec<_> = master
            .peers
            .iter()
            .filter(|(_, peer)| peer.sent.is_none())
            .map(|(peer, _)| *peer)
            .collect();
        idle.sort_unstable();
        idle.into_iter().for_each(|peer| self.deliver(peer));
    }

    pub(super) fn deliver(&mut self, id: u64) {
        let Some(peer) = self
            .master
            .as_mut()
            .and_then(|master| master.peers.get_mut(&id))
        else {
            return;
        };
        if peer.sent.is_some() {
            return;
        }
        let Some(news) = peer.queue.take() else {
            return;
        };
        self.count += 1;
        let sent = self.count;
        peer.sent = Some(sent);
        let node = self
            .nodes
            .iter()
            .enumerate()
            .map(|(node, _)| node)
            .find(|node| peer.address == format!("node-{node}:1"))
            .unwrap();
        self.later(CALL_TIMEOUT, Event::NotDelivered { peer: id, sent });
        if let Some(run) = self.nodes[node].as_ref().and_then(Node::listens) {
            self.send(
                node,
                Event::Told {
                    node,
                    run,
                    peer: id,
                    sent,
                    news,
                },
            );
        }
    }

    pub(super) fn delivered(&mut self, id: u64, sent: u64, arrived: bool) {
        let Some(peer) = self
            .master
            .as_mut()
            .and_then(|master| master.peers.get_mut(&id))
        else {
            return;
        };
        if peer.sent != Some(sent) {
            return;
        }
        peer.sent = None;
        if arrived {
            peer.queue.delivered();
            self.deliver(id);
        } else {
            peer.queue.failed();
            self.later(Duration::from_millis(500), Event::Deliver { peer: id });
        }
    }
}
