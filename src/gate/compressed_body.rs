//! Bodies that a client has compressed with zlib, as pitaya's C client does unless told otherwise: no
//! I/O.

use bytes::Bytes;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use crate::error::{Error, Result, code};

/// The bit of a message's flag that marks a compressed body.
pub(super) const FLAG: u8 = 0x10;

/// The header of gzip. Pomelo calls the bit `compressGzip`, and nothing of pomelo's sets it.
const GZIP: &[u8] = b"\x1f\x8b\x08";

/// Inflates a marked body to at most `limit` bytes. A body without a header of zlib or gzip is left
/// as it is, for Go nano ignores the bit.
///
/// # Errors
/// [`code::BAD_REQUEST`] if the body is cut short, broken, longer than the limit, or gzip.
pub(super) fn inflate(body: Bytes, limit: usize) -> Result<Bytes> {
    let fault = if body.starts_with(GZIP) {
        "gzip, and only zlib is inflated".to_owned()
    } else if has_header(&body) {
        match decompress_to_vec_zlib_with_limit(&body, limit) {
            Ok(inflated) => return Ok(inflated.into()),
            Err(error) if error.status == TINFLStatus::HasMoreOutput => {
                format!("over {limit} bytes when inflated")
            }
            Err(_) => "invalid zlib data".to_owned(),
        }
    } else {
        return Ok(body);
    };
    Err(Error::new(
        code::BAD_REQUEST,
        format!("compressed body: {fault}"),
    ))
}

/// Whether this begins as RFC 1950 says: deflate, a window of at most 32 KiB, no preset dictionary,
/// and a header divisible by 31.
fn has_header(body: &[u8]) -> bool {
    let &[method, flags, ..] = body else {
        return false;
    };
    method & 0x0F == 8
        && method >> 4 <= 7
        && flags & 0x20 == 0
        && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec_zlib;

    use super::*;

    fn text(limit: usize, body: &[u8]) -> String {
        inflate(Bytes::copy_from_slice(body), limit)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_level_inflates_to_what_was_compressed() {
        let plain: Vec<u8> = (0..5_000u32).map(|at| (at * at % 251) as u8).collect();
        for level in 0..=10 {
            let body = compress_to_vec_zlib(&plain, level);
            assert_eq!(inflate(body.into(), plain.len()).unwrap(), plain);
        }
        let empty = compress_to_vec_zlib(b"", 6);
        assert_eq!(inflate(empty.into(), 0).unwrap(), "");
    }

    #[test]
    fn a_body_without_a_zlib_header_stays_as_it_is() {
        for body in [
            &b""[..],
            b"x",
            b"{}",
            b"\x78",
            b"\x78\x00",
            b"\x88\x1c..",
            b"\x1f\x8b",
        ] {
            assert_eq!(inflate(Bytes::from_static(body), 10).unwrap(), body);
        }
    }

    #[test]
    fn a_body_over_the_limit_a_cut_one_and_a_broken_one_are_errors_by_name() {
        let bomb = compress_to_vec_zlib(&vec![0; 1 << 20], 9);
        assert!(bomb.len() < 2_000);
        assert!(text(65_536, &bomb).contains("compressed body: over 65536 bytes when inflated"));
        let mut body = compress_to_vec_zlib(b"a body of some length, some length, some", 6);
        for len in 2..body.len() {
            assert!(
                text(100, &body[..len]).contains("compressed body: invalid"),
                "{len}"
            );
        }
        *body.last_mut().unwrap() ^= 1;
        assert!(text(100, &body).contains("compressed body: invalid"));
        assert!(text(100, b"\x1f\x8b\x08\0").contains("compressed body: gzip"));
    }
}
