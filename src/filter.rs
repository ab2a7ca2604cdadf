//! Filters: code that runs before and after handlers.
//!
//! A filter is installed on a node ([`App::filter`](crate::App::filter)), on a service
//! ([`Options::filter`](crate::Options::filter)) or on a route
//! ([`Handlers::filter`](crate::Handlers::filter)). It sees every message whose handler runs on
//! this node: of clients, of [`rpc`](crate::Session::rpc) and of calls, whichever node they come
//! from. It runs on the handler's scheduler, in the handler's place in the session's order, and
//! sees the decoded message.
//!
//! ```
//! use nano::{App, Error, code, filter::{self, Flow}};
//! use std::time::Duration;
//!
//! let app = App::new()
//!     .filter(filter::RouteTiming)
//!     .filter(filter::LoadShed::new(Duration::from_millis(200)))
//!     .filter(filter::before(|call| match call.session().uid() {
//!         0 if !call.route().starts_with("Account.") => Err(Error::new(code::FORBIDDEN, "log in first")),
//!         _ => Ok(Flow::Continue),
//!     }));
//! ```
//!
//! # Order
//! `before` runs from the outside in: the node's filters, the service's, the route's, each in the
//! order they were added. `after` runs in reverse.
//!
//! A filter that refuses a message, or answers it, ends it: the filters behind it and the handler do
//! not run, and `after` runs for the filters ahead of it. Every filter whose `before` returned
//! [`Flow::Continue`] gets its `after`, exactly once: also when the handler fails, panics, runs out
//! of time, or is dropped with the node. Its own error or panic does not call its own `after`.
//!
//! # Waiting
//! A [`Filter`] returns at once. An [`AsyncFilter`] may wait, for a database for example. The
//! session's next messages wait with it, so its messages keep their order, and other sessions go on.
//! It may take as long as the request timeout; the message is then refused with
//! [`code::TIMEOUT`](crate::code::TIMEOUT).
//!
//! # Panics
//! A panic ends the message it happened in with [`code::INTERNAL`](crate::code::INTERNAL), and is
//! counted in [`metrics::PANICS`](crate::metrics::PANICS).
//!
//! # Beside pipelines
//! A [`Pipeline`](crate::Pipeline) sees the bytes of clients' messages on the gate, before it is known
//! where their handler is, and every message to clients. A filter sees values and results, where the
//! handler is.

mod chain;
mod closures;
mod context;
mod load_shed;
mod route;
mod route_timing;
mod time_limit;
mod traits;

pub(crate) use self::{
    chain::Chain,
    context::{Ended, Took},
    route::MessageType,
    traits::AnyFilter,
};
pub use self::{
    closures::{After, Before, Validate, after, before, validate},
    context::{Answer, Context, Flow, Outcome},
    load_shed::LoadShed,
    route::Route,
    route_timing::RouteTiming,
    time_limit::TimeLimit,
    traits::{AsyncFilter, AsyncKind, Filter, Install, IntoFilter, SyncKind},
};
