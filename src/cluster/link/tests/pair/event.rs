//! What happens to the two nodes, and to the streams between them.

use super::node::Handle;

#[derive(Debug)]
pub(super) enum Event {
    Act,
    Probe,
    Connect {
        node: usize,
        index: usize,
        peer: u64,
    },
    /// The opener of a stream learns that it was accepted.
    Accepted {
        node: usize,
        index: usize,
        number: u64,
    },
    /// The opener of a stream learns that it broke.
    OutboundBroken {
        node: usize,
        index: usize,
        number: u64,
    },
    /// The other end learns it.
    InboundBroken {
        node: usize,
        index: usize,
        number: u64,
    },
    Batch {
        from: usize,
        index: usize,
        number: u64,
    },
    Answers {
        from: usize,
        index: usize,
        number: u64,
    },
    /// A handler is done with a message.
    Handled {
        node: usize,
        incarnation: u64,
        session: Handle,
        request: u64,
    },
    /// A handler is done with a call.
    Called {
        node: usize,
        incarnation: u64,
        call: u64,
    },
    Restart {
        node: usize,
        incarnation: u64,
    },
    /// A node learns that the other one was started again.
    PeerRestarted {
        node: usize,
        incarnation: u64,
    },
}
