//! The size of the terminal, and what it does with keys.

#[cfg(unix)]
use std::{io, os::fd::AsFd};

#[cfg(unix)]
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr,
};

/// The columns and rows of a terminal; `None` where the system names none.
#[cfg(unix)]
pub(crate) fn size(terminal: &impl AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    let size = (size.ws_col.into(), size.ws_row.into());
    (size.0 > 0 && size.1 > 0).then_some(size)
}

#[cfg(not(unix))]
pub(crate) fn size<T>(_: &T) -> Option<(usize, usize)> {
    None
}

/// Keys are not shown while this lives, and those that were typed are forgotten. Ctrl-C interrupts.
#[derive(Debug)]
pub(crate) struct Silence {
    #[cfg(unix)]
    before: Termios,
}

#[cfg(unix)]
impl Silence {
    /// `None` if the standard input is no terminal.
    pub(crate) fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Self { before })
    }
}

#[cfg(unix)]
impl Drop for Silence {
    fn drop(&mut self) {
        // There is no terminal to restore where these fail.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(not(unix))]
impl Silence {
    pub(crate) fn begin() -> Option<Self> {
        None
    }
}
