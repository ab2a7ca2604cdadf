#![no_main]

#[path = "../../src/net/websocket/frame_reader.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod frame_reader;
#[path = "../websocket.rs"]
mod websocket;

libfuzzer_sys::fuzz_target!(|data: &[u8]| websocket::websocket(data));
