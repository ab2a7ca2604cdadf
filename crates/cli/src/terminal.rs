//! The size of the terminal, and what it does with keys.

#[cfg(unix)]
use std::os::fd::AsFd;
use std::{
    io::{self, IsTerminal, Read},
    thread,
};

#[cfg(unix)]
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcsetattr,
};
use tokio::sync::oneshot;

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

/// Completes when this key is typed; never where the standard input is no terminal.
///
/// Without [`Silence`] the key is read at the end of its line. The thread that reads keys ends with the
/// process.
pub(crate) async fn typed(key: u8) {
    let (sender, found) = oneshot::channel();
    let read = move || {
        let mut keys = io::stdin().lock().bytes().map_while(Result::ok);
        if keys.any(|typed| typed == key) {
            // An error: the command has ended otherwise.
            let _ = sender.send(());
        }
    };
    let reads = io::stdin().is_terminal() && thread::Builder::new().spawn(read).is_ok();
    if !reads || found.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Keys are not shown and not kept for a line while this lives, and those that were typed are forgotten.
/// Ctrl-C interrupts.
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
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON);
        // A read has at least one key.
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
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
