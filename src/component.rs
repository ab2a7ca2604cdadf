//! Components: the services an application is made of.

use std::{any::type_name, marker::PhantomData, sync::Arc};

use crate::{
    error::Result,
    filter::AnyFilter,
    handle::{Handle, Schedulers},
    panic::catch_panic,
    serialize::{Json, Serializer},
};

mod erased;
mod filtered;
mod handlers;
mod invocation;
mod options;
mod placement;
mod report;
mod service;
mod signature;

pub(crate) use self::{erased::ErasedHandler, report::ErrorReporter, service::Service};
use self::{erased::ServiceConfig, service::Hooks};
pub use self::{
    handlers::{Handler, Handlers},
    options::Options,
};

/// A service: state, handlers, and hooks into the life of the node.
///
/// `S` is the format of its messages, JSON unless named. All sessions share one component, on
/// several schedulers if the application uses several. Keep its state in locks that are held
/// briefly, never while pushing. `Arc<C>` is a component where `C` is, so that several components
/// and the program can share one value.
///
/// ```
/// use nano::{Component, Group, Handlers, Result, Session};
/// use serde::Deserialize;
///
/// #[derive(Default)]
/// struct Room { group: Group }
///
/// #[derive(Deserialize)]
/// struct Say { text: String }
///
/// impl Component for Room {
///     fn handlers(h: Handlers<Self>) -> Handlers<Self> {
///         h.on("Join", Self::join).on("Say", Self::say)      // routes "Room.Join" and "Room.Say"
///     }
/// }
///
/// impl Room {
///     fn join(&self, session: &Session, _: ()) -> Result<&'static str> {
///         self.group.add(session)?;
///         Ok("hello")
///     }
///     // No reply: clients send it as a notify.
///     fn say(&self, _: &Session, message: Say) -> Result {
///         self.group.broadcast("onSay", &message.text)
///     }
/// }
/// ```
///
/// # Hooks
/// The hooks run on the node's default scheduler, one at a time. At start: `init` of every
/// component in the order they were added, then `after_init` of every component. Clients reach the
/// node only after that. When it drains: `before_drain`, in the same order. At stop, after the last client has gone: `before_shutdown` of every
/// component in reverse order, then `shutdown` likewise.
///
/// A panic in a hook is counted in [`metrics::PANICS`](crate::metrics::PANICS) and handled as an
/// error of that hook.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component",
    label = "`impl Component for {Self}` is missing",
    note = "a component is a value, or an `Arc` of it, whose type implements `nano::Component`"
)]
pub trait Component<S: Serializer = Json>: Send + Sync + Sized + 'static {
    /// Registers the handlers.
    fn handlers(handlers: Handlers<Self, S>) -> Handlers<Self, S>;

    /// Runs before the node serves clients. Other components may not be initialised yet.
    ///
    /// # Errors
    /// An error keeps the node from starting.
    fn init(self: &Arc<Self>, _node: &Handle) -> Result {
        Ok(())
    }

    /// Runs when every component is initialised.
    ///
    /// # Errors
    /// An error keeps the node from starting.
    fn after_init(self: &Arc<Self>, _node: &Handle) -> Result {
        Ok(())
    }

    /// Runs when the node begins to [drain](Handle::drain), while players are still connected: to
    /// tell them, and to start no new game. In the order of the components. A node that stops without
    /// a drain does not call it.
    fn before_drain(self: &Arc<Self>, _node: &Handle) {}

    /// Runs when the last client has gone, before any component shuts down.
    fn before_shutdown(self: &Arc<Self>, _node: &Handle) {}

    /// Runs last.
    fn shutdown(self: &Arc<Self>, _node: &Handle) {}

    /// The path of the type the service is named after.
    #[doc(hidden)]
    fn type_path() -> &'static str {
        type_name::<Self>()
    }
}

impl<S: Serializer, C: Component<S>> Component<S> for Arc<C> {
    fn handlers(handlers: Handlers<Self, S>) -> Handlers<Self, S> {
        handlers.through_arc(C::handlers)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        C::init(self, node)
    }

    fn after_init(self: &Arc<Self>, node: &Handle) -> Result {
        C::after_init(self, node)
    }

    fn before_drain(self: &Arc<Self>, node: &Handle) {
        C::before_drain(self, node);
    }

    fn before_shutdown(self: &Arc<Self>, node: &Handle) {
        C::before_shutdown(self, node);
    }

    fn shutdown(self: &Arc<Self>, node: &Handle) {
        C::shutdown(self, node);
    }

    fn type_path() -> &'static str {
        C::type_path()
    }
}

impl Service {
    /// Registers a component. `filters` are those of the node.
    ///
    /// # Errors
    /// [`BAD_REQUEST`](crate::code::BAD_REQUEST) for options or routes that are not valid, and what
    /// a filter returns that cannot be installed.
    pub(crate) fn register<S: Serializer, C: Component<S>>(
        component: Arc<C>,
        options: &Options,
        schedulers: &Schedulers,
        reporter: &Arc<ErrorReporter>,
        filters: &[AnyFilter],
    ) -> Result<Self> {
        let name = match &options.name {
            Some(name) => name.clone(),
            None => short_name(C::type_path()).to_owned(),
        };
        let config = Arc::new(ServiceConfig {
            placement: options.placement.resolve(&name, schedulers)?,
            reporter: reporter.clone(),
            name: name.clone(),
        });
        let mut handlers = C::handlers(Handlers::new(
            component.clone(),
            config,
            options.name_func,
            options.internal,
        ))
        .finish()?;
        for handler in &mut handlers {
            handler.install(filters, &options.filters)?;
        }
        let hooks = ComponentHooks {
            component,
            reporter: reporter.clone(),
            format: PhantomData,
        };
        Self::new(name, handlers, Box::new(hooks))
    }
}

/// The last part of a type's path, without its parameters.
fn short_name(path: &str) -> &str {
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

struct ComponentHooks<C, S> {
    component: Arc<C>,
    reporter: Arc<ErrorReporter>,
    format: PhantomData<fn() -> S>,
}

impl<C, S> ComponentHooks<C, S> {
    fn call(&self, hook: impl FnOnce() -> Result) -> Result {
        catch_panic(&self.reporter.metrics.panics, "panicked", hook)
    }
}

impl<S: Serializer, C: Component<S>> Hooks for ComponentHooks<C, S> {
    fn init(&self, node: &Handle) -> Result {
        self.call(|| self.component.init(node))
    }

    fn after_init(&self, node: &Handle) -> Result {
        self.call(|| self.component.after_init(node))
    }

    fn before_drain(&self, node: &Handle) -> Result {
        self.call(|| {
            self.component.before_drain(node);
            Ok(())
        })
    }

    fn before_shutdown(&self, node: &Handle) -> Result {
        self.call(|| {
            self.component.before_shutdown(node);
            Ok(())
        })
    }

    fn shutdown(&self, node: &Handle) -> Result {
        self.call(|| {
            self.component.shutdown(node);
            Ok(())
        })
    }
}
