//! Clients log in, bind and close.

use rand::RngExt;

use super::{
    network::{Event, Node},
    world::World,
};

impl World {
    /// A client does something.
    pub(super) fn act(&mut self) {
        // Slower in the end, so that no login waits for long behind others.
        let next = match self.network.calm_for().is_zero() {
            true => self.shape.client_pause.clone(),
            false => 500..1000,
        };
        let next = self.network.millis(next);
        if self.network.calm_for() > self.shape.calm.0 {
            return;
        }
        self.network.after(next, Event::Client);
        let node = self.network.random.random_range(0..self.nodes.len());
        let now = self.network.now;
        let action = self.network.random.random_range(0..10);
        let user = self.network.random.random_range(0..self.users.len());
        let suspended = self.network.suspended.get(&node);
        if suspended.is_some_and(|until| *until > now) {
            return;
        }
        let Some(running) = self.nodes[node].as_mut().filter(|it| !it.leaving) else {
            return;
        };
        let process = running.process();
        if action < 6 {
            let (user, _) = self.users[user].clone();
            // Unique in the cluster, as ids of sessions are.
            self.sessions += 1;
            let session = self.sessions;
            self.oracle.opens(&user, (process, session));
            match action {
                0 => running.gate.bind(session, user, 0),
                _ => {
                    self.oracle.begins(&user, (process, session), now);
                    running.gate.login(session, user, self.policy, now);
                }
            }
            self.network.log(&(process, session, "begins"));
            return self.flush(node);
        }
        let sessions = running.gate.all();
        if sessions.is_empty() {
            return;
        }
        let session = sessions[self.network.random.random_range(0..sessions.len())].session;
        self.close(node, session);
    }

    pub(super) fn close(&mut self, node: Node, session: i64) {
        let now = self.network.now;
        let Some(running) = self.nodes[node].as_mut() else {
            return;
        };
        if running.finished.contains(&session) {
            return;
        }
        let process = running.process();
        running.gate.closed(session, now);
        self.oracle.ends((process, session), false, now);
        self.run_callbacks(node, process, session);
        self.flush(node);
    }
}
