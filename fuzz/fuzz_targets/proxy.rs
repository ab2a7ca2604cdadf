#![no_main]

#[path = "../proxy.rs"]
mod proxy;
#[path = "../../src/net/proxy_header.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod proxy_header;

mod address {
    use std::net::SocketAddr;

    pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::proxy(data));
