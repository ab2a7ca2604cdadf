//! The lifecycle hooks of all components, called in order.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    component::Service,
    error::{Error, Result, code},
    handle::Handle,
};

/// A lifecycle hook of [`Component`](crate::Component).
#[derive(Clone, Copy)]
pub(super) enum Hook {
    Init,
    AfterInit,
    BeforeDrain,
    BeforeShutdown,
    Shutdown,
}

/// A hook that failed, and the component it belongs to.
pub(super) struct HookError {
    pub(super) component: String,
    pub(super) hook: &'static str,
    pub(super) error: Error,
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::AfterInit => "after_init",
            Self::BeforeDrain => "before_drain",
            Self::BeforeShutdown => "before_shutdown",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether components are called in reverse.
    fn is_reversed(self) -> bool {
        matches!(self, Self::BeforeShutdown | Self::Shutdown)
    }

    /// Whether all components are called, whatever one of them returns.
    fn goes_on(self) -> bool {
        self.is_reversed() || matches!(self, Self::BeforeDrain)
    }

    fn call(self, service: &Service, node: &Handle) -> Result {
        let hooks = &service.hooks;
        match self {
            Self::Init => hooks.init(node),
            Self::AfterInit => hooks.after_init(node),
            Self::BeforeDrain => hooks.before_drain(node),
            Self::BeforeShutdown => hooks.before_shutdown(node),
            Self::Shutdown => hooks.shutdown(node),
        }
    }
}

/// Calls one hook of every component on the node's default scheduler, where hooks share the
/// components' state with handlers.
///
/// # Errors
/// While the node starts, the first error, which ends the calls. Later, the last one; all
/// components are called.
pub(super) async fn call(
    hook: Hook,
    node: &Handle,
    services: &Arc<Vec<Service>>,
) -> Result<(), HookError> {
    let (done, result) = oneshot::channel();
    let task = {
        let (node, services) = (node.clone(), services.clone());
        move || {
            // The receiver is gone if the shutdown deadline has passed.
            let _ = done.send(call_all(hook, &node, &services));
        }
    };
    let stopped = || HookError {
        component: String::new(),
        hook: hook.name(),
        error: Error::new(code::UNAVAILABLE, "the scheduler is shut down"),
    };
    node.scheduler()
        .push_always(Box::new(task))
        .map_err(|_| stopped())?;
    result.await.unwrap_or_else(|_| Err(stopped()))
}

fn call_all(hook: Hook, node: &Handle, services: &[Service]) -> Result<(), HookError> {
    let failed = |service: &Service, error| HookError {
        component: service.name.clone(),
        hook: hook.name(),
        error,
    };
    if !hook.goes_on() {
        return services.iter().try_for_each(|service| {
            hook.call(service, node)
                .map_err(|error| failed(service, error))
        });
    }
    let mut result = Ok(());
    let mut call = |service: &Service| {
        if let Err(error) = hook.call(service, node) {
            result = Err(failed(service, error));
        }
    };
    match hook.is_reversed() {
        true => services.iter().rev().for_each(&mut call),
        false => services.iter().for_each(&mut call),
    }
    result
}

impl HookError {
    /// The error of a start that this hook ended.
    pub(super) fn into_error(self) -> Error {
        let Self {
            component,
            hook,
            error,
        } = self;
        let source = error.to_string();
        let error = error.expose();
        Error::new(
            error.code().to_string(),
            format!("{hook} of component {component}: {}", error.message()),
        )
        .with_source(source)
    }
}
