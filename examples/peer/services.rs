//! The services of the recorded server.

use std::{str, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use nano::{Component, Error, Group, Handlers, Json, Protobuf, Raw, Result, Serializer, Session};
use serde::{Deserialize, Serialize};

pub(crate) struct Echo;

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Echo", Self::echo)
            .raw("Sink", Self::sink)
            .raw("Push", Self::push)
    }
}

impl Echo {
    fn echo(&self, _: &Session, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }

    fn sink(&self, _: &Session, _: Bytes) -> Result {
        Ok(())
    }

    fn push(&self, session: &Session, body: Bytes) -> Result {
        session.push_raw("onEcho", body)
    }
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
pub(crate) struct Ping {
    #[prost(string, tag = "1")]
    content: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub(crate) struct Pong {
    #[prost(string, tag = "2")]
    content: String,
}

/// One message in whichever format the server was started with.
pub(crate) struct Pb;

impl Component<Json> for Pb {
    fn handlers(h: Handlers<Self, Json>) -> Handlers<Self, Json> {
        h.on("Echo", Self::echo)
    }
}

impl Component<Protobuf> for Pb {
    fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
        h.on("Echo", Self::echo)
    }
}

impl Pb {
    fn echo<S: Serializer>(&self, _: &Session<S>, ping: Ping) -> Result<Pong> {
        Ok(Pong {
            content: ping.content,
        })
    }
}

/// One group. Sessions that close leave it by themselves.
#[derive(Default)]
pub(crate) struct Grp {
    group: Group,
}

impl Component for Grp {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.raw("Join", Self::join)
            .raw("Send", Self::send)
            .raw("Count", Self::count)
    }
}

impl Grp {
    fn join(&self, session: &Session, body: Bytes) -> Result<Bytes> {
        self.group.add(session)?;
        Ok(body)
    }

    fn send(&self, _: &Session, body: Bytes) -> Result {
        self.group.broadcast_raw("onBroadcast", body)
    }

    fn count(&self, _: &Session, _: Bytes) -> Result<String> {
        Ok(self.group.count().to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct Typed {
    #[serde(default)]
    a: String,
    #[serde(default)]
    n: i64,
}

#[derive(Serialize)]
struct Ids {
    id: i64,
    uid: i64,
    mid: u64,
    remote: String,
}

/// Everything else a handler can do.
pub(crate) struct T;

impl Component<Json> for T {
    fn handlers(h: Handlers<Self, Json>) -> Handlers<Self, Json> {
        Self::raw_handlers(h)
            .on("Typed", Self::typed)
            .on("Nil", Self::nil)
    }
}

impl Component<Protobuf> for T {
    fn handlers(h: Handlers<Self, Protobuf>) -> Handlers<Self, Protobuf> {
        Self::raw_handlers(h)
    }
}

impl T {
    fn raw_handlers<S: Serializer>(h: Handlers<Self, S>) -> Handlers<Self, S> {
        h.raw("Err", Self::err)
            .raw("Panic", Self::panic)
            .raw("Empty", Self::empty)
            .raw("Twice", Self::twice)
            .raw("PushEmpty", Self::push_empty)
            .raw("PushThenResp", Self::push_then_resp)
            .raw("Big", Self::big)
            .raw("PushLongRoute", Self::push_long_route)
            .raw("Close", Self::close)
            .raw("RespClose", Self::resp_close)
            .raw("SleepClose", Self::sleep_close)
            .raw("Kick", Self::kick)
            .raw("Ids", Self::ids)
            .raw("Bind", Self::bind)
            .raw("Flood", Self::flood)
            .raw("Sleep", Self::sleep)
            .raw("RPC", Self::rpc)
    }

    fn typed(&self, _: &Session, message: Typed) -> Result<Typed> {
        Ok(message)
    }

    fn nil(&self, _: &Session, _: ()) -> Result<Option<()>> {
        Ok(None)
    }

    fn err<S: Serializer>(&self, _: &Session<S>, _: Bytes) -> Result {
        Err(Error::new("T-ERR", "handler says no"))
    }

    fn panic<S: Serializer>(&self, _: &Session<S>, _: Bytes) -> Result {
        panic!("boom")
    }

    fn empty<S: Serializer>(&self, _: &Session<S>, _: Bytes) -> Result<Bytes> {
        Ok(Bytes::new())
    }

    fn twice<S: Serializer>(&self, session: &Session<S>, _: Bytes) -> Result {
        session.respond_raw("first")?;
        session.respond_raw("second")
    }

    fn push_empty<S: Serializer>(&self, session: &Session<S>, _: Bytes) -> Result {
        session.push_raw("onEmpty", Bytes::new())
    }

    fn push_then_resp<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result<Bytes> {
        session.push_raw("onA", body.clone())?;
        session.push_raw("Dict.known", body.clone())?;
        Ok(body)
    }

    fn big<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result {
        let (kind, count) = text(&body)?
            .split_once(':')
            .ok_or_else(|| Error::new("T-BIG", "resp:N or push:N"))?;
        let letters: Vec<u8> = (b'a'..=b'z').cycle().take(count.parse()?).collect();
        match kind {
            "resp" => session.respond_raw(letters),
            _ => session.push_raw("onBig", letters),
        }
    }

    fn push_long_route<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result {
        session.push_raw(&"r".repeat(300), body)
    }

    fn close<S: Serializer>(&self, session: &Session<S>, _: Bytes) -> Result {
        session.close();
        Ok(())
    }

    fn resp_close<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result {
        session.respond_raw(body)?;
        session.close();
        Ok(())
    }

    fn sleep_close<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result {
        thread::sleep(Duration::from_millis(text(&body)?.parse()?));
        session.close();
        Ok(())
    }

    fn kick<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result {
        session.kick(text(&body)?);
        Ok(())
    }

    fn ids<S: Serializer>(&self, session: &Session<S>, _: Bytes) -> Result {
        let remote = session
            .remote_addr()
            .map(|address| address.to_string())
            .unwrap_or_default();
        session.typed::<Json>().respond(&Ids {
            id: session.id(),
            uid: session.uid(),
            mid: session.request_id(),
            remote,
        })
    }

    fn bind<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result<&'static str> {
        session.bind(text(&body)?.parse()?)?;
        Ok("bound")
    }

    /// Pushes as fast as it can; the answer comes when the client has had a moment to fall behind.
    async fn flood<S: Serializer>(
        self: Arc<Self>,
        session: Session<S>,
        body: Bytes,
    ) -> Result<String> {
        let count: u32 = text(&body)?.parse()?;
        let failed = (0..count)
            .filter(|n| session.push_raw("onFlood", format!("{n:08}")).is_err())
            .count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(failed.to_string())
    }

    /// Holds its scheduler: what blocking code in a handler does.
    fn sleep<S: Serializer>(&self, _: &Session<S>, body: Bytes) -> Result<Bytes> {
        thread::sleep(Duration::from_millis(text(&body)?.parse()?));
        Ok(body)
    }

    fn rpc<S: Serializer>(&self, session: &Session<S>, body: Bytes) -> Result<&'static str> {
        let body = text(&body)?;
        let (route, payload) = body.split_once(' ').unwrap_or((body, ""));
        session.typed::<Raw>().rpc(route, payload)?;
        Ok("rpc-sent")
    }
}

fn text(body: &Bytes) -> Result<&str> {
    Ok(str::from_utf8(body)?)
}
