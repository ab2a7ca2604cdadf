//! One player's session, wherever its connection is.
//!
//! Handlers and the application hold [`Session`]s; the node's table, [`Sessions`], owns what they
//! share. From the bottom up: values a session keeps, its order ([`sequencer`]), the end of it
//! ([`close_state`]), the session itself ([`handle`]), its methods by subject, and the table.

mod attributes;
mod call;
mod cancellation;
mod closing;
mod listing;
mod messages;
mod migration;
mod registry;
mod responder;
mod router;
mod shared;
mod table;
mod user_pushes;

mod handle;

mod bindings;
mod close_reason;
mod close_state;
mod data;
mod endings;
mod extensions;
mod kept;
mod last_servers;
mod pins;
mod push;
mod reply_to;
mod sequencer;
mod shared_values;
mod user_id;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::handle::SessionInner;
pub(crate) use self::{
    bindings::Departure,
    close_state::{GroupRef, SessionKey},
    handle::{Call, CallRouter, SessionTable},
    kept::Kept,
    push::GateMulticast,
    registry::{OnBind, SessionHooks, SessionOwner, UserObserver},
    reply_to::{Caller, CancelCall, ReplyTo},
    sequencer::{Place, Sequenced, SequencedTask, Ticket},
    shared_values::SharedValues,
};
pub use self::{
    call::{ByNode, BySession, CallBuilder},
    close_reason::CloseReason,
    closing::CloseCallback,
    data::State,
    extensions::Extensions,
    handle::{Session, SessionSink},
    push::Push,
    registry::Sessions,
    responder::Responder,
    router::Router,
    shared::SharedData,
    user_id::UserId,
};
