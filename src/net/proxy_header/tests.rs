use std::{fs, path::Path};

#[path = "../../../fuzz/proxy.rs"]
mod proxy;

mod proxy_header {
    pub(super) use super::super::parse;
}

#[test]
fn proxy_seeds_pass_the_proxy_check() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/proxy");
    for seed in fs::read_dir(seeds).unwrap() {
        proxy::proxy(&fs::read(seed.unwrap().path()).unwrap());
    }
}
