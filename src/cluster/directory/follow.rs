//! Follows the clock and the views of the cluster for as long as the directory lives.

use std::{
    collections::HashSet,
    future::pending,
    sync::{Arc, Weak},
};

use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    driver::Directory,
    view::{NodeId, View},
};
use crate::{
    cluster::membership::view_status::ViewStatus,
    member::{Member, MemberSet},
};

/// What the directory needs to know of the cluster that its node is in.
pub(crate) struct ClusterViews {
    /// Whether this node is the master.
    pub(crate) is_master: bool,
    /// The other members.
    pub(crate) members: watch::Receiver<Arc<MemberSet>>,
    pub(crate) view_status: watch::Receiver<ViewStatus>,
}

/// Runs a directory for as long as the node lives. A standalone node has no views to follow.
pub(crate) fn follow(
    directory: &Arc<Directory>,
    views: Option<ClusterViews>,
) -> AbortOnDropHandle<()> {
    if views.is_none() {
        let alone = vec![directory.own().clone()];
        directory.set_view(View::new(1, alone, 0));
    }
    let run = run(Arc::downgrade(directory), directory.needs_tick(), views);
    AbortOnDropHandle::new(tokio::spawn(run))
}

async fn run(directory: Weak<Directory>, needs_tick: Arc<Notify>, mut views: Option<ClusterViews>) {
    loop {
        let Some(alive) = directory.upgrade() else {
            return;
        };
        if let Some(views) = &mut views {
            set_latest_view(&alive, views);
        }
        let next_tick = alive.tick();
        drop(alive);
        let ticks = async {
            match next_tick {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let changed = async {
            let Some(views) = &mut views else {
                return pending().await;
            };
            tokio::select! {
                changed = views.members.changed() => changed.is_ok(),
                changed = views.view_status.changed() => changed.is_ok(),
            }
        };
        tokio::select! {
            is_open = changed => if !is_open {
                // The node has left its cluster: no view follows.
                views = None;
            },
            () = needs_tick.notified() => {}
            () = ticks => {}
        }
    }
}

/// Goes on to the latest view.
fn set_latest_view(directory: &Arc<Directory>, views: &mut ClusterViews) {
    let view_status = views.view_status.borrow_and_update().clone();
    let members = views.members.borrow_and_update().clone();
    directory.heard_of(view_status.heard);
    let known = directory.view().number();
    let view = |number, members: &MemberSet, master| {
        let linked = members.iter().filter(|member| member.info().link);
        let node = |member: &Member| NodeId {
            address: member.address().into(),
            incarnation: member.incarnation(),
        };
        let own = directory.own();
        let gates = linked.clone().filter(|member| member.may_be_gate());
        // Whether this one is a gate makes no difference: it is not far to ask.
        let gates: HashSet<_> = gates.map(node).chain([own.clone()]).collect();
        let nodes = linked.map(node).chain([own.clone()]).collect();
        View::new(number, nodes, master).with_gates(|node| gates.contains(node))
    };
    match &view_status.view {
        _ if view_status.basic_master => {
            let table = view(0, &members, 0);
            if known != 0 || directory.view().yields_to(&table) {
                directory.set_view(table);
            }
        }
        Some(numbered) if numbered.number > known => {
            directory.set_view(view(numbered.number, &numbered.members, numbered.master));
        }
        // A node that has not joined yet is no cluster of its own.
        _ if known == 0 && (views.is_master || members.iter().next().is_some()) => {
            let master = match views.is_master {
                true => directory.own().incarnation,
                false => view_status.master,
            };
            let table = view(0, &members, master);
            if directory.view().yields_to(&table) {
                directory.set_view(table);
            }
        }
        _ => {}
    }
}
