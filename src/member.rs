//! One node of a cluster, as the others know it.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// A member of the cluster: what a node says of itself when it joins. A cheap handle on what never
/// changes: a node that comes back with other services is another member.
#[derive(Clone, PartialEq, Eq)]
pub struct Member(Arc<Info>);

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) label: String,
    pub(crate) address: String,
    pub(crate) services: Vec<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) incarnation: u64,
    pub(crate) link: bool,
}

impl Member {
    pub(crate) fn new(info: Info) -> Self {
        Self(Arc::new(info))
    }

    /// The label it was started with; empty for none. Nothing keeps two members from having the
    /// same.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Where other nodes reach it: its service address. No two members have the same.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The names of the services it offers, sorted if the member is a node of this crate.
    pub fn services(&self) -> &[String] {
        &self.0.services
    }

    /// What it was started with to tell the others; always empty for a node of Go nano.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Which run of the node this is: a node that is started again has a larger one. 0 for a node
    /// of Go nano.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Whether it speaks Go nano's protocol only.
    pub(crate) fn is_go(&self) -> bool {
        self.incarnation() == 0
    }

    pub(crate) fn info(&self) -> &Info {
        &self.0
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
