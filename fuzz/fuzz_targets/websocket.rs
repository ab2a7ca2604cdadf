#![no_main]

#[path = "../websocket.rs"]
mod websocket;

libfuzzer_sys::fuzz_target!(|data: &[u8]| websocket::websocket(data));
