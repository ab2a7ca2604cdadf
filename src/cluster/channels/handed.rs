//! Histories on their way from one owner to the next. No I/O.

use super::message::Handover;

/// The bytes of what waits for its view, at most.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What former owners have sent under a view that has not arrived here yet. Only the next view
/// counts: an older handover that is late could bring back a past of the channel.
#[derive(Debug, Default)]
pub(super) struct Handed {
    handovers: Vec<Handover>,
    bytes: usize,
}

impl Handed {
    /// Keeps a handover, within bounds.
    pub(super) fn put(&mut self, handover: Handover) {
        let kept = handover.kept.iter().map(|(kept, _)| kept.weight());
        let bytes = handover.channel.len() + kept.sum::<usize>();
        if self.bytes + bytes <= MAX_BYTES {
            self.bytes += bytes;
            self.handovers.push(handover);
        }
    }

    /// Takes what belongs to a view, and drops all else.
    pub(super) fn take(&mut self, view: u64) -> impl Iterator<Item = Handover> + use<> {
        let handovers = std::mem::take(self).handovers;
        handovers.into_iter().filter(move |it| it.view == view)
    }
}
