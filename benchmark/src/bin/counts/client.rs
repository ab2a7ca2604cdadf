//! A client that sends the same bytes again and again.

use bytes::BytesMut;
use nano::{
    Error, Node, Result, code,
    packet::{self, Decoder, Kind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MAX_PACKET: usize = 64 * 1024;
/// A client whose session can be resumed says after so many data packets what it has received.
const ACKNOWLEDGED: u64 = 256;

pub(crate) struct Client {
    socket: TcpStream,
    pub(crate) heard: Vec<u8>,
    /// How many data packets it has received, if its session can be resumed.
    received: Option<u64>,
}

impl Client {
    pub(crate) async fn connect(nodes: &[Node]) -> Result<Self> {
        Self::greet(nodes, b"{}", None).await
    }

    /// Connects with a session that can be resumed.
    pub(crate) async fn resumable(nodes: &[Node]) -> Result<Self> {
        Self::greet(nodes, br#"{"sys":{"resume":{}}}"#, Some(0)).await
    }

    async fn greet(nodes: &[Node], handshake: &[u8], received: Option<u64>) -> Result<Self> {
        let address = nodes
            .iter()
            .find_map(|node| node.addresses().first().copied());
        let address = address.ok_or_else(|| Error::new(code::INTERNAL, "no node listens"))?;
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut out = BytesMut::new();
        packet::encode(Kind::Handshake, handshake, &mut out)?;
        socket.write_all(&out).await?;
        let mut decoder = Decoder::new(MAX_PACKET);
        while decoder.decode()?.is_none() {
            let mut chunk = [0; 1024];
            let size = socket.read(&mut chunk).await?;
            if size == 0 {
                return Err(Error::new(code::CLOSED, "no handshake"));
            }
            decoder.feed(&chunk[..size]);
        }
        out.clear();
        packet::encode(Kind::Ack, b"", &mut out)?;
        socket.write_all(&out).await?;
        Ok(Self {
            socket,
            heard: Vec::new(),
            received,
        })
    }

    /// Sends `said` and waits for `answer` bytes of data.
    pub(crate) async fn exchange(&mut self, said: &[u8], answer: usize) -> Result {
        self.socket.write_all(said).await?;
        match self.received {
            None => self.hear(answer).await,
            Some(received) => self.hear_data(answer, received).await,
        }
    }

    /// Waits for so many bytes.
    pub(crate) async fn hear(&mut self, size: usize) -> Result {
        self.heard.resize(size, 0);
        self.socket.read_exact(&mut self.heard).await?;
        Ok(())
    }

    /// Waits for so many bytes of data packets, among which others may be, and acknowledges them from
    /// time to time.
    async fn hear_data(&mut self, size: usize, mut received: u64) -> Result {
        let (before, mut left) = (received, size);
        while left > 0 {
            self.hear(left).await?;
            let mut at = 0;
            while at < self.heard.len() {
                let header = self.heard.get(at..at + packet::HEADER);
                let &[kind, high, middle, low] = header.unwrap_or_default() else {
                    return Err(Error::new(code::INTERNAL, "a packet is cut"));
                };
                let body = u32::from_be_bytes([0, high, middle, low]) as usize;
                at += packet::HEADER + body;
                if kind == Kind::Data as u8 {
                    received += 1;
                    left = left.saturating_sub(packet::HEADER + body);
                }
            }
            if at > self.heard.len() {
                // Another packet was in between.
                let missing = at - self.heard.len();
                self.hear(missing).await?;
            }
        }
        self.received = Some(received);
        if received / ACKNOWLEDGED > before / ACKNOWLEDGED {
            self.acknowledge(received).await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, mut received: u64) -> Result {
        let mut body = Vec::new();
        while received >= 0x80 {
            body.push(received as u8 | 0x80);
            received >>= 7;
        }
        body.push(received as u8);
        let mut out = BytesMut::new();
        packet::encode(Kind::Heartbeat, &body, &mut out)?;
        Ok(self.socket.write_all(&out).await?)
    }
}
