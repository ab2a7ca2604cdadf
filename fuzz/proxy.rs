//! Properties of the parser of PROXY headers on any input, shared by the fuzz target and the tests.

use super::proxy_header::parse;

/// What is parsed is the whole header: it is none with a byte more, or with one less. The address in
/// it is canonical.
pub(crate) fn proxy(data: &[u8]) {
    let Ok(Some(client)) = parse(data) else {
        return;
    };
    assert_eq!(client.ip(), client.ip().to_canonical());
    let mut longer = data.to_vec();
    longer.push(b'\n');
    assert!(parse(&longer).is_err());
    assert!(parse(&data[..data.len() - 1]).is_err());
}
