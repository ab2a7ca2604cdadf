//! The view that a node is in, and the one its master has stated.

use std::sync::Arc;

use super::{heartbeat::ViewStamp, table::MemberTable};
use crate::member::MemberSet;

/// The latest view of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct ViewStatus {
    /// The latest view that a master has stated; the node may not be in it yet. 0 for none.
    pub(crate) heard: u64,
    /// The latest view that this node was in.
    pub(crate) view: Option<NumberedView>,
    /// The incarnation of the master that stated a view last; 0 before the first heartbeat.
    pub(crate) master: u64,
    /// Whether the master is basic, which numbers no views.
    pub(crate) basic_master: bool,
}

/// Each method returns whether something has changed.
impl ViewStatus {
    /// Notes the view that a master of this incarnation states. The node is in it if it has its table.
    ///
    /// The numbers of several masters never go back; those of a single one do if it is started with
    /// its clock set back.
    pub(super) fn hear(&mut self, view: ViewStamp, master: u64, table: &MemberTable) -> bool {
        let is_in = view.number != 0 && table.digest() == view.digest;
        let known = self.view.as_ref().map_or(0, |view| view.number);
        let is_later = known < view.number || table.term() == 0 && known != view.number;
        let enters = is_in && is_later;
        if enters {
            self.enter(view.number, master, table);
        }
        let hears = self.heard < view.number;
        self.heard = self.heard.max(view.number);
        let other = self.lead(master);
        enters || hears || other || std::mem::take(&mut self.basic_master)
    }

    /// Notes that the master is basic, which numbers no views.
    pub(super) fn hear_basic_master(&mut self) -> bool {
        self.heard = 0;
        self.master = 0;
        self.view = None;
        !std::mem::replace(&mut self.basic_master, true)
    }

    /// Notes that the master of this incarnation leads.
    pub(super) fn lead(&mut self, master: u64) -> bool {
        std::mem::replace(&mut self.master, master) != master
    }

    /// Notes the view that this node states, a master of this incarnation, and is in.
    pub(super) fn state(&mut self, number: u64, own: u64, table: &MemberTable) -> bool {
        let is_new = number > self.heard;
        if is_new {
            self.heard = number;
            self.enter(number, own, table);
        }
        is_new
    }

    fn enter(&mut self, number: u64, master: u64, table: &MemberTable) {
        self.view = Some(NumberedView {
            number,
            master,
            members: Arc::new(MemberSet::new(table.list())),
        });
    }
}

/// A state of the member table with a number.
#[derive(Debug, Clone)]
pub(crate) struct NumberedView {
    pub(crate) number: u64,
    /// The incarnation of the master.
    pub(crate) master: u64,
    /// The other members.
    pub(crate) members: Arc<MemberSet>,
}
