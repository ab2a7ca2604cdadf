//! WebSocket frames as bytes, so that a test sees and sends exactly what it says.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::wait::within;

/// The kinds of frames.
pub mod opcode {
    /// A further fragment of a message.
    pub const CONTINUATION: u8 = 0;
    /// A text message, or its first fragment.
    pub const TEXT: u8 = 1;
    /// A binary message, or its first fragment.
    pub const BINARY: u8 = 2;
    /// The end of the connection.
    pub const CLOSE: u8 = 8;
    /// A ping.
    pub const PING: u8 = 9;
    /// A pong.
    pub const PONG: u8 = 10;
}

/// The key of all frames a client sends; the protocol wants one, whichever.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// One WebSocket frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind, one of [`opcode`].
    pub opcode: u8,
    /// Whether it is the last fragment of its message.
    pub last: bool,
    /// What it carries, without the mask.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole binary message.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            opcode: opcode::BINARY,
            last: true,
            payload: payload.into(),
        }
    }

    /// The frame as a client sends it.
    pub fn encode(&self) -> Vec<u8> {
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

    /// Reads the rest of a server's frame, whose first byte is `first`.
    ///
    /// # Panics
    /// The connection ends inside of the frame, or the frame is masked or uses an extension.
    pub async fn read(from: &mut (impl AsyncRead + Unpin), first: u8) -> Self {
        Self::try_read(from, first)
            .await
            .unwrap_or_else(|error| panic!("half a frame: {error}"))
    }

    async fn try_read(from: &mut (impl AsyncRead + Unpin), first: u8) -> io::Result<Self> {
        assert_eq!(first & 0x70, 0, "a frame with an unknown extension");
        let len = match from.read_u8().await? {
            126 => from.read_u16().await?.into(),
            127 => from.read_u64().await?,
            masked @ 0x80.. => panic!("a server must not mask: {masked:#x}"),
            len => len.into(),
        };
        let mut payload = vec![0; len as usize];
        from.read_exact(&mut payload).await?;
        Ok(Self {
            opcode: first & 0x0F,
            last: first & 0x80 != 0,
            payload,
        })
    }
}

/// The head of the request that asks for a WebSocket at `path`, with further header lines, each
/// ended by CRLF.
pub fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// Sends the head of an HTTP request. Returns the connection, and the head of the response.
///
/// # Panics
/// The connection fails, or the response does not come within [`DEADLINE`](super::DEADLINE).
pub async fn http(address: SocketAddr, request: &str) -> (BufReader<TcpStream>, String) {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        stream.write_all(request.as_bytes()).await?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<_, io::Error>((stream, head))
    };
    within("the head of an HTTP response", exchange)
        .await
        .unwrap_or_else(|error| panic!("no response from {address}: {error}"))
}
