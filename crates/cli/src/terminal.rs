//! The size of the terminal.

#[cfg(unix)]
use std::os::fd::AsFd;

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
