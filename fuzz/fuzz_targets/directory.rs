#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nano::fuzzing::directory(data));
