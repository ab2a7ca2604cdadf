//! The handle of a running node, for its components and the rest of the program.

// The methods of the handle, by subject.
mod members;
mod messages;
mod reload;
mod running;

// The handle, and the parts of a node that it holds.
mod node_handle;

mod call;
mod certificates;
mod config;
mod deny_list;
mod lifecycle;
#[cfg_attr(
    not(feature = "admin"),
    allow(dead_code, reason = "the admin server shows them")
)]
mod lost_members;
mod membership;
mod schedulers;
mod start_steps;
mod users;

pub use call::CallAllBuilder;
pub(crate) use certificates::ReadCertificates;
pub(crate) use config::HandleConfig;
pub use deny_list::DenyList;
pub use lifecycle::Readiness;
pub(crate) use lifecycle::StopTimes;
pub(crate) use membership::ClusterMembership;
pub use node_handle::Handle;
pub(crate) use node_handle::NodeParts;
pub(crate) use schedulers::Schedulers;
pub(crate) use start_steps::Step;
pub use users::{Location, Login, Unique, User, Users};
pub(crate) use users::{Missed, UserRouter};
