//! The generated code is committed, so building the crate needs no protobuf compiler. This test
//! generates it again and compares.
//!
//! After a change in `proto/` write it with `NANO_BLESS=1 cargo test --test codegen`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, env, ffi::OsString, fs, path::Path};

#[test]
fn generated_code_is_what_the_protos_say() {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = protos.join("../src/cluster/generated");
    let out = tempfile::tempdir().unwrap();
    let sources: Vec<_> = fs::read_dir(protos)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "proto")
                // For clients; the server's type is in `crates/protocol`.
                && !path.ends_with("error.proto")
        })
        .collect();
    let descriptors = protox::compile(&sources, [protos]).unwrap();
    tonic_prost_build::configure()
        .codec_path("super::Codec")
        // Bodies stay slices of what the network read.
        .bytes(".")
        // A fixed order, so that equal members encode equally.
        .btree_map(".")
        // By hand: it keeps the fields it does not know.
        .extern_path(".clusterpb.MemberInfo", "super::MemberInfo")
        // Rare parts of a frame must not make every frame larger.
        .boxed("nano.link.v1.Frame.hello")
        .boxed("nano.link.v1.Frame.open")
        .boxed("nano.link.v1.Frame.close")
        .boxed("nano.link.v1.Frame.share")
        .boxed("nano.link.v1.Frame.user")
        .boxed("nano.link.v1.Frame.trace")
        .boxed("nano.link.v1.Frame.more")
        .boxed("nano.link.v1.Frame.missed")
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap();

    let generated = files(out.path());
    if env::var_os("NANO_BLESS").is_some() {
        generated
            .iter()
            .for_each(|(name, text)| fs::write(committed.join(name), text).unwrap());
    }
    let committed = files(&committed);
    assert_eq!(
        generated.keys().collect::<Vec<_>>(),
        committed.keys().collect::<Vec<_>>(),
        "the files in src/cluster/generated"
    );
    for (name, text) in &generated {
        assert!(
            *text == committed[name],
            "{name:?} is not what proto/ says: NANO_BLESS=1 cargo test --test codegen"
        );
    }
    assert!(
        generated
            .values()
            .any(|text| text.contains("pub data: ::prost::bytes::Bytes")),
        "bodies are Bytes"
    );
    assert!(
        !generated
            .values()
            .any(|text| text.contains("pub data: ::prost::alloc::vec::Vec<u8>")),
        "no body is a Vec"
    );
}

fn files(directory: &Path) -> BTreeMap<OsString, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}
