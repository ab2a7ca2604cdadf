//! The stream below a connection, and the part of it that ends with the reply to an upgrade.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The buffer of one read from a stream, in bytes. It is on the stack, so a thousand idle bots hold
/// no buffers.
pub(crate) const READ_BUFFER: usize = 16 * 1024;

/// What ends the head of an HTTP response.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxedIo = Box<dyn Io>;

/// A stream of which no more is read than the head of an HTTP response: what follows is kept for
/// the reader of frames.
pub(crate) struct Upgrading {
    io: BoxedIo,
    /// How many bytes of [`END_OF_HEAD`] were read last.
    matched: usize,
    rest: Vec<u8>,
}

impl Upgrading {
    pub(crate) fn new(io: BoxedIo) -> Self {
        Self {
            io,
            matched: 0,
            rest: Vec::new(),
        }
    }

    /// Returns the stream, and what was read of it behind the head.
    pub(crate) fn into_parts(self) -> (BoxedIo, Vec<u8>) {
        (self.io, self.rest)
    }

    /// Returns how many of these bytes are of the head.
    fn head(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            self.matched = match (END_OF_HEAD.get(self.matched), byte) {
                (Some(expected), byte) if expected == byte => self.matched + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
            if self.matched == END_OF_HEAD.len() {
                return at + 1;
            }
        }
        bytes.len()
    }
}

impl AsyncRead for Upgrading {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begin = into.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, into))?;
        let head = begin + this.head(&into.filled()[begin..]);
        this.rest.extend_from_slice(&into.filled()[head..]);
        into.set_filled(head);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgrading {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_follows_the_head_is_kept_for_the_reader_of_frames() {
        const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\na: \r\r\n\r\n";
        for piece in [1, 2, 3, 7, 1_000] {
            let (near, mut far) = duplex(1_000);
            let mut upgrading = Upgrading::new(Box::new(near));
            let all = [HEAD, b"\x82\x01a\r\n\r\nb"].concat();
            let mut head = Vec::new();
            for piece in all.chunks(piece) {
                far.write_all(piece).await.unwrap();
                if head.len() < HEAD.len() {
                    upgrading.read_buf(&mut head).await.unwrap();
                }
            }
            assert_eq!(head, HEAD, "in pieces of {piece}");
            drop(far);
            let (mut io, mut rest) = upgrading.into_parts();
            io.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"\x82\x01a\r\n\r\nb", "in pieces of {piece}");
        }
    }
}
