//! The PROXY protocol, versions 1 and 2: the address of a client behind a proxy.

use std::{io, net::SocketAddr};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::address::canonical;

/// What a header of version 2 begins with.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_SIGNATURE: &[u8; 6] = b"PROXY ";
/// Version 2, and the command of a proxy that speaks for itself.
const V2_LOCAL: u8 = 0x20;
/// Signature, version, family and length of version 2, in bytes.
const V2_HEAD: usize = 16;
/// The longest header of version 1, in bytes.
const V1_MAX: usize = 107;
/// The longest header of version 2 that is accepted, in bytes. The fields behind the addresses,
/// which are skipped, take some hundred at most.
const V2_MAX: usize = 4 * 1024;

/// Reads a header, and no byte behind it. Returns the address of the client, or `None` if the proxy
/// speaks for itself (version 2's LOCAL, as in health checks) or does not know the address.
///
/// # Errors
/// `UnexpectedEof` if the stream ends first, `InvalidData` for anything else than a header.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == *V2_SIGNATURE {
        read_v2(stream, &mut header).await?;
    } else if header.starts_with(V1_SIGNATURE) {
        read_v1(stream, &mut header).await?;
    } else {
        return Err(invalid("no PROXY header"));
    }
    parse(&header)
}

/// Parses a whole header; as [`read`].
pub(super) fn parse(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    if header.starts_with(V2_SIGNATURE) && header.get(V2_SIGNATURE.len()) == Some(&V2_LOCAL) {
        // Family and addresses mean nothing then, whatever they are.
        return Ok(None);
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, len)) if len == header.len() => {
            Ok(parsed.proxied_address().map(|it| canonical(it.source)))
        }
        Ok(_) => Err(invalid("PROXY header of a wrong length")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

async fn read_v2(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(V2_HEAD, 0);
    stream.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
    let rest = usize::from(u16::from_be_bytes([
        header[V2_HEAD - 2],
        header[V2_HEAD - 1],
    ]));
    if V2_HEAD + rest > V2_MAX {
        return Err(invalid("PROXY header too long"));
    }
    header.resize(V2_HEAD + rest, 0);
    stream.read_exact(&mut header[V2_HEAD..]).await?;
    Ok(())
}

/// Looks at what has arrived before it takes it: the end of the line is not known in advance.
async fn read_v1(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut ahead = [0; V1_MAX];
    loop {
        let seen = stream.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(seen, |end| end + 1);
        if header.len() + take > V1_MAX {
            return Err(invalid("PROXY header too long"));
        }
        let start = header.len();
        header.resize(start + take, 0);
        stream.read_exact(&mut header[start..]).await?;
        if end.is_some() {
            return Ok(());
        }
    }
}

fn invalid(fault: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

#[cfg(test)]
mod tests;
