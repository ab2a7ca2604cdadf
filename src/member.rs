//! A node of the cluster as the others know it, and the set of them.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

/// The longest version of an application, in bytes.
const MAX_VERSION: usize = 64;

/// Checks the version of an application, which may be empty.
///
/// # Errors
/// It is too long for a table of members, or has characters that a terminal obeys.
pub(crate) fn check_version(version: &str) -> Result<(), String> {
    if version.len() > MAX_VERSION {
        return Err(format!("a version of more than {MAX_VERSION} bytes"));
    }
    match version.chars().any(char::is_control) {
        true => Err("a version with control characters".to_owned()),
        false => Ok(()),
    }
}

/// A callback that is given a member.
pub(crate) type OnMember = Arc<dyn Fn(&Member) + Send + Sync>;

/// A member of the cluster: what a node announces of itself when it joins.
///
/// A cheap handle to data that never changes: a node that restarts, perhaps with other services, is
/// another member.
///
/// ```
/// use nano::{Handle, Member};
///
/// /// The address of the member that has rooms and the most free seats.
/// fn emptiest(node: &Handle) -> Option<String> {
///     let seats = |member: &Member| member.metadata().get("seats")?.parse::<u32>().ok();
///     let members = node.members();
///     let with_rooms = members.iter().filter(|member| member.services().iter().any(|it| it == "Rooms"));
///     with_rooms.max_by_key(|member| seats(member)).map(|member| member.address().to_owned())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Member(Arc<Info>);

/// What a member announces of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) label: String,
    pub(crate) address: String,
    pub(crate) services: Vec<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) incarnation: u64,
    /// Whether it takes `nano.link.v1` streams; otherwise it takes unary calls.
    pub(crate) link: bool,
    /// Whether clients connect to it.
    pub(crate) gate: bool,
    /// Where its admin server listens; empty without one.
    pub(crate) admin: String,
    /// The version of its application; empty if it says none.
    pub(crate) version: String,
    /// Encoded fields of its announcement that this version does not know. Passed on as they are.
    pub(crate) unknown: Vec<u8>,
}

impl Member {
    pub(crate) fn new(info: Info) -> Self {
        Self(Arc::new(info))
    }

    /// The label it was started with; empty if none. Labels need not be unique.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The address at which other nodes reach it. Unique in a cluster.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The names of its services. Sorted, unless it is a [basic
    /// member](crate::guide::glossary#the-cluster).
    pub fn services(&self) -> &[String] {
        &self.0.services
    }

    /// The metadata it was started with; always empty for a basic member.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// The [version of its application](crate::App::version); empty if it says none, as a basic member
    /// does.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// Its incarnation: a restarted node has a larger one. 0 for a basic member.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// Whether it speaks the basic protocol only: it has no incarnation, no links, no digest, and
    /// cannot tell two announcements of one member apart. See `cluster/compat.rs`.
    pub(crate) fn is_basic(&self) -> bool {
        self.incarnation() == 0
    }

    /// Whether clients may be connected to it. Members without links do not say.
    pub(crate) fn may_be_gate(&self) -> bool {
        self.0.gate || !self.0.link
    }

    /// Whether `other` announces the same, apart from fields this version does not know. Their
    /// order may differ from one call to the next.
    pub(crate) fn announces_same(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        (
            a.incarnation,
            &a.address,
            &a.label,
            a.link,
            a.gate,
            &a.admin,
            &a.version,
        ) == (
            b.incarnation,
            &b.address,
            &b.label,
            b.link,
            b.gate,
            &b.admin,
            &b.version,
        ) && a.services == b.services
            && a.metadata == b.metadata
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

/// All other members of the cluster at one moment: the master first, then in the order they joined.
///
/// The membership state publishes a new set with every change; everything else reads the latest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberSet(Vec<Member>);

impl MemberSet {
    pub(crate) fn new(members: Vec<Member>) -> Self {
        Self(members)
    }
}

impl Deref for MemberSet {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.0
    }
}
