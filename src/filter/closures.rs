//! Filters made of closures.

use std::{fmt, marker::PhantomData};

use super::{
    context::{Context, Flow, Outcome},
    route::Route,
    traits::{Filter, Install},
};
use crate::error::Result;

/// Makes a filter of a closure that runs before handlers.
///
/// ```
/// use nano::{Error, Options, code, filter::{self, Flow}};
///
/// let options = Options::new().filter(filter::before(|call| {
///     if call.session().uid() == 0 {
///         return Err(Error::new(code::FORBIDDEN, "log in first"));
///     }
///     Ok(Flow::Continue)
/// }));
/// ```
pub fn before<F>(run: F) -> Before<F>
where
    F: Fn(&mut Context<'_>) -> Result<Flow> + Send + Sync + 'static,
{
    Before(run)
}

/// The filter of [`before`].
pub struct Before<F>(F);

impl<F> Filter for Before<F>
where
    F: Fn(&mut Context<'_>) -> Result<Flow> + Send + Sync + 'static,
{
    fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        (self.0)(call)
    }
}

/// Makes a filter of a closure that runs after handlers.
///
/// ```
/// use nano::{App, filter};
///
/// let app = App::new().filter(filter::after(|call, outcome| {
///     println!("{} took {:?}: {:?}", call.route(), outcome.took(), outcome.error());
/// }));
/// ```
pub fn after<F>(run: F) -> After<F>
where
    F: Fn(&Context<'_>, &mut Outcome<'_>) + Send + Sync + 'static,
{
    After(run)
}

/// The filter of [`after`].
pub struct After<F>(F);

impl<F> Filter for After<F>
where
    F: Fn(&Context<'_>, &mut Outcome<'_>) + Send + Sync + 'static,
{
    fn after(&self, call: &Context<'_>, outcome: &mut Outcome<'_>) {
        (self.0)(call, outcome);
    }
}

/// Makes a filter of a check of messages of one type.
///
/// On a node or a service it is installed on the routes whose handlers take an `M`, and skips the
/// others. [`Handlers::validate`](crate::Handlers::validate) installs a check on one route.
///
/// ```
/// use nano::{App, Error, filter};
///
/// struct Say { text: String }
///
/// let app = App::new().filter(filter::validate(|say: &Say| match say.text.len() {
///     1..=200 => Ok(()),
///     _ => Err(Error::bad_request("from 1 to 200 letters")),
/// }));
/// ```
pub fn validate<M: 'static, F>(check: F) -> Validate<M, F>
where
    F: Fn(&M) -> Result + Send + Sync + 'static,
{
    Validate(check, PhantomData)
}

/// The filter of [`validate`].
pub struct Validate<M, F>(F, PhantomData<fn(&M)>);

impl<M: 'static, F> Filter for Validate<M, F>
where
    F: Fn(&M) -> Result + Send + Sync + 'static,
{
    fn before(&self, call: &mut Context<'_>) -> Result<Flow> {
        call.message().map_or(Ok(()), &self.0)?;
        Ok(Flow::Continue)
    }

    fn for_route(&self, route: &mut Route<'_>) -> Result<Install> {
        Ok(match route.takes::<M>() {
            true => Install::Keep,
            false => Install::Skip,
        })
    }
}

impl<F> fmt::Debug for Before<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Before").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for After<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("After").finish_non_exhaustive()
    }
}

impl<M, F> fmt::Debug for Validate<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validate").finish_non_exhaustive()
    }
}
