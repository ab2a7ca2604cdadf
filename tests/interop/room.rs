//! The service of our nodes here: what `node/service.go` does, in Rust.

use std::sync::Arc;

use bytes::Bytes;
use nano::{Component, Error, Handle, Handlers, Member, Raw, Result, Session};
use parking_lot::Mutex;

#[derive(Clone)]
pub(crate) struct Room(pub(crate) Arc<State>);

#[derive(Default)]
pub(crate) struct State {
    label: String,
    /// The uids of sessions that have ended.
    pub(crate) closed: Mutex<Vec<i64>>,
}

impl Room {
    pub(crate) fn new(label: &str) -> Self {
        Self(Arc::new(State {
            label: label.to_owned(),
            closed: Mutex::default(),
        }))
    }

    fn echo(&self, _: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn who(&self, _: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        Ok(self.0.label.clone().into())
    }

    fn push(&self, session: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        session.push_raw("onA", body.clone())?;
        session.push_raw("onB", body.clone())?;
        Ok(body)
    }

    fn note(&self, session: &Session<Raw>, body: Bytes) -> Result {
        session.push_raw("onNote", format!("{} {}", self.0.label, text(&body)?))
    }

    fn rpc(&self, session: &Session<Raw>, body: Bytes) -> Result<&'static [u8]> {
        let (route, rest) = text(&body)?
            .split_once(' ')
            .ok_or_else(|| Error::new("ROOM", "not a route and a body"))?;
        session.rpc(route, rest.as_bytes())?;
        Ok(b"sent")
    }

    fn bind(&self, session: &Session<Raw>, body: Bytes) -> Result<&'static [u8]> {
        session.bind(text(&body)?.parse::<i64>()?)?;
        Ok(b"bound")
    }

    /// Answers with the code of an error: a Go gate passes no errors on.
    async fn login(self: Arc<Self>, session: Session<Raw>, body: Bytes) -> Result<Bytes> {
        let answer = match session.login(text(&body)?).await {
            Ok(login) if login.replaced => "replaced".to_owned(),
            Ok(_) => "granted".to_owned(),
            Err(error) => error.code().to_string(),
        };
        Ok(answer.into())
    }

    fn number(&self, session: &Session<Raw>, body: Bytes) -> Result<Bytes> {
        let (number, last): (u64, u64) = (text(&body)?.parse()?, session.value_or_default("last"));
        if number != last + 1 && session.value::<String>("disorder").is_none() {
            session.set("disorder", format!("{number} after {last}"));
        }
        session.set("last", number);
        session.push_raw("onNumber", body.clone())?;
        Ok(body)
    }

    fn counted(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        let disorder = session.value::<String>("disorder");
        Ok(disorder
            .unwrap_or_else(|| session.value_or_default::<u64>("last").to_string())
            .into())
    }

    fn close(&self, session: &Session<Raw>, _: Bytes) -> Result {
        session.close();
        Ok(())
    }

    fn last_words(&self, session: &Session<Raw>, body: Bytes) -> Result {
        session.respond_raw(body)?;
        session.close();
        Ok(())
    }

    fn want(&self, session: &Session<Raw>, body: Bytes) -> Result<&'static [u8]> {
        session.set("wanted", text(&body)?.to_owned());
        Ok(b"noted")
    }

    fn offered(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        Ok(session.value_or_default::<String>("offered").into())
    }

    fn chosen(&self, session: &Session<Raw>, _: Bytes) -> Result<Bytes> {
        Ok(session.value_or_default::<String>("chosen").into())
    }
}

impl Component<Raw> for Room {
    fn handlers(h: Handlers<Self, Raw>) -> Handlers<Self, Raw> {
        h.on("Echo", Self::echo)
            .on("Who", Self::who)
            .on("Push", Self::push)
            .on("Note", Self::note)
            .on("Rpc", Self::rpc)
            .on("Bind", Self::bind)
            .on("Login", Self::login)
            .on("Number", Self::number)
            .on("Counted", Self::counted)
            .on("Close", Self::close)
            .on("LastWords", Self::last_words)
            .on("Want", Self::want)
            .on("Offered", Self::offered)
            .on("Chosen", Self::chosen)
    }

    fn init(self: &Arc<Self>, node: &Handle) -> Result {
        let state = self.0.clone();
        node.on_session_closed(move |session, _| state.closed.lock().push(session.uid()));
        Ok(())
    }
}

/// Takes the member with the label that the session wants, and stores it in the session, and which
/// it could have taken.
pub(crate) fn choose(session: &Session, _: &str, members: &[Member]) -> Result<Option<Member>> {
    let offered: Vec<_> = members.iter().map(Member::address).collect();
    session.set("offered", offered.join(" "));
    let wanted = session.value::<String>("wanted");
    let chosen = members
        .iter()
        .find(|member| Some(member.label()) == wanted.as_deref());
    session.set("chosen", chosen.map_or("", Member::address).to_owned());
    Ok(chosen.cloned())
}

fn text(body: &Bytes) -> Result<&str> {
    Ok(std::str::from_utf8(body)?)
}
