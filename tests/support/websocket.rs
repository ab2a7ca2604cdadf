use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::within;

/// What a frame is.
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// Clients must mask what they send, with any key.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// One WebSocket frame, by hand, so that nothing is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) last: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            opcode: opcode::BINARY,
            last: true,
            payload: payload.into(),
        }
    }

    /// The frame as a client sends it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.opcode | if self.last { 0x80 } else { 0 }];
        match self.payload.len() {
            len @ 0..126 => out.push(0x80 | len as u8),
            len @ 126..65_536 => {
                out.push(0x80 | 126);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(0x80 | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(MASK);
        out.extend(
            self.payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        out
    }

    /// The next frame of a server.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin), first: u8) -> Self {
        assert_eq!(
            first & 0x70,
            0,
            "a frame with an extension nobody asked for"
        );
        let len = match from.read_u8().await.unwrap() {
            126 => from.read_u16().await.unwrap().into(),
            127 => from.read_u64().await.unwrap(),
            masked @ 0x80.. => panic!("a server must not mask: {masked:#x}"),
            len => len.into(),
        };
        let mut payload = vec![0; len as usize];
        from.read_exact(&mut payload).await.unwrap();
        Self {
            opcode: first & 0x0F,
            last: first & 0x80 != 0,
            payload,
        }
    }
}

/// The head of the request that asks for a WebSocket at `path`, with further header lines.
pub(crate) fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// Sends the head of an HTTP request. The connection, and the head of the response.
pub(crate) async fn http(address: SocketAddr, request: &str) -> (BufReader<TcpStream>, String) {
    let stream = within("a connection", TcpStream::connect(address))
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = within("the head of an HTTP response", stream.read_line(&mut head))
            .await
            .unwrap();
        assert!(read > 0, "closed within the head of a response: {head:?}");
    }
    (stream, head)
}
