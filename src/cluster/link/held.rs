//! What waits for the gate of a session while the session moves to another one. No I/O.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    config::{MAX_SHARES, SESSION_QUOTA},
    proto::Frame,
};
use crate::{
    error::{Error, Result, code},
    session::{CloseReason, UserId},
};

/// What a change of a binding takes beside its text, about, in bytes.
const ROUTE: usize = 48;

/// Something for the gate of a session.
pub(in crate::cluster) enum HeldItem {
    /// A push, or a message or call on behalf of the session.
    Frame(Frame),
    Respond(u64, Result<Bytes>),
    Close(CloseReason),
    Bind(Option<UserId>),
    Route(String, Option<String>),
    /// The value under this key has changed.
    Share(String),
}

/// What waits, in order. What was accepted is sent; nothing is accepted behind a close, as on a link.
///
/// Frames and bindings are bounded as what is queued for the session on a link; responses, by the
/// requests in flight; shared values, as those that a gate has not applied; of binds the last counts.
#[derive(Default)]
pub(super) struct Held {
    items: Vec<HeldItem>,
    bytes: usize,
    /// The requests that are answered.
    answered: HashSet<u64>,
    /// The keys of values that have changed. Each is sent once: with its last value, where it was changed
    /// first.
    shared: HashSet<String>,
    closed: bool,
}

impl Held {
    /// Keeps a frame.
    ///
    /// # Errors
    /// [`code::TOO_MANY`], [`code::CLOSED`] behind a close.
    pub(super) fn push(&mut self, frame: Frame) -> Result {
        self.charge(frame.weight())?;
        self.items.push(HeldItem::Frame(frame));
        Ok(())
    }

    /// Keeps the answer to a request, which `answer` makes.
    ///
    /// # Errors
    /// [`code::CONFLICT`] if it is answered, [`code::CLOSED`] behind a close.
    pub(super) fn respond(
        &mut self,
        request: u64,
        answer: impl FnOnce() -> Result<Bytes>,
    ) -> Result {
        self.check_open()?;
        if !self.answered.insert(request) {
            let text = format!("request {request} does not wait for an answer");
            return Err(Error::new(code::CONFLICT, text));
        }
        self.items.push(HeldItem::Respond(request, answer()));
        Ok(())
    }

    /// Keeps a close. Only the first one counts.
    ///
    /// # Errors
    /// [`code::CLOSED`].
    pub(super) fn close(&mut self, reason: CloseReason) -> Result {
        self.check_open()?;
        self.closed = true;
        self.items.push(HeldItem::Close(reason));
        Ok(())
    }

    /// Keeps the user. The last one is sent, where the first one was kept.
    ///
    /// # Errors
    /// [`code::CLOSED`].
    pub(super) fn bind(&mut self, user: Option<UserId>) -> Result {
        self.check_open()?;
        let kept = self.items.iter_mut().find_map(|item| match item {
            HeldItem::Bind(kept) => Some(kept),
            _ => None,
        });
        match kept {
            Some(kept) => *kept = user,
            None => self.items.push(HeldItem::Bind(user)),
        }
        Ok(())
    }

    /// Keeps a binding.
    ///
    /// # Errors
    /// [`code::TOO_MANY`], [`code::CLOSED`].
    pub(super) fn route(&mut self, service: &str, address: Option<&str>) -> Result {
        self.charge(ROUTE + service.len() + address.map_or(0, str::len))?;
        let address = address.map(str::to_owned);
        self.items
            .push(HeldItem::Route(service.to_owned(), address));
        Ok(())
    }

    /// Keeps that the value under a key has changed, which `set` does.
    ///
    /// # Errors
    /// Nothing has changed then: [`code::TOO_MANY`], [`code::CLOSED`], and what `set` returns.
    pub(super) fn share(&mut self, key: &str, set: impl FnOnce() -> Result) -> Result {
        self.check_open()?;
        if self.shared.contains(key) {
            return set();
        }
        if self.shared.len() >= MAX_SHARES {
            return Err(too_many());
        }
        set()?;
        self.shared.insert(key.to_owned());
        self.items.push(HeldItem::Share(key.to_owned()));
        Ok(())
    }

    pub(super) fn into_items(self) -> Vec<HeldItem> {
        self.items
    }

    fn charge(&mut self, bytes: usize) -> Result {
        self.check_open()?;
        let bytes = self.bytes + bytes;
        if bytes > SESSION_QUOTA.0 {
            return Err(too_many());
        }
        self.bytes = bytes;
        Ok(())
    }

    fn check_open(&self) -> Result {
        match self.closed {
            true => Err(Error::new(code::CLOSED, "the session is closed")),
            false => Ok(()),
        }
    }
}

fn too_many() -> Error {
    let text = "the session moves to another gate, and takes no more until then";
    Error::new(code::TOO_MANY, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(result: Result, code: crate::ErrorCode<'static>) -> bool {
        result.is_err_and(|error| error.code() == code)
    }

    #[test]
    fn everything_that_waits_is_bounded() {
        let mut held = Held::default();
        let route = |held: &mut Held| held.route("Room", Some(&"x".repeat(1000)));
        let routes = (0..).take_while(|_| route(&mut held).is_ok()).count();
        assert!((3_000..5_000).contains(&routes), "{routes}");
        let large = Frame::push(1, Vec::new(), "on", vec![0; 2000].into());
        assert!(fails(held.push(large), code::TOO_MANY));
        for number in 0..MAX_SHARES {
            held.share(&number.to_string(), || Ok(())).unwrap();
        }
        let more = held.share("more", || panic!("it does not fit"));
        assert!(fails(more, code::TOO_MANY));
        for _ in 0..5_000 {
            held.share("1", || Ok(())).unwrap();
            held.bind(None).unwrap();
        }
        assert!(held.respond(1, || Ok(Bytes::new())).is_ok());
        let again = held.respond(1, || panic!("it is answered"));
        assert!(fails(again, code::CONFLICT));
        let refused = Error::new(code::TOO_LARGE, "");
        let mut other = Held::default();
        assert!(other.share("key", || Err(refused)).is_err());
        assert_eq!(other.into_items().len(), 0);
        assert_eq!(held.into_items().len(), routes + MAX_SHARES + 2);
    }

    #[test]
    fn the_last_bind_waits_and_nothing_behind_a_close() {
        let mut held = Held::default();
        let user = |id| UserId::of_parts(id, "");
        held.bind(user(1)).unwrap();
        held.push(Frame::push(1, Vec::new(), "on", Bytes::new()))
            .unwrap();
        held.bind(user(2)).unwrap();
        held.close(CloseReason::Kicked("out".to_owned())).unwrap();
        let frame = Frame::push(1, Vec::new(), "on", Bytes::new());
        let closed = |result| fails(result, code::CLOSED);
        assert!(closed(held.push(frame)));
        assert!(closed(held.bind(None)));
        assert!(closed(held.route("Room", None)));
        assert!(closed(held.share("key", || panic!("closed"))));
        assert!(closed(held.respond(1, || panic!("closed"))));
        assert!(closed(held.close(CloseReason::Denied)));
        let items = held.into_items();
        assert!(matches!(&items[0], HeldItem::Bind(it) if *it == user(2)));
        assert!(matches!(&items[1], HeldItem::Frame(_)));
        assert!(matches!(&items[2], HeldItem::Close(CloseReason::Kicked(_))));
        assert_eq!(items.len(), 3);
    }
}
