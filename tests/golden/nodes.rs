//! Every recorded conversation between nodes of nano. Those that a script played then are played
//! here; the others are our own, in processes, with the flags of the recorded ones. Ours make the
//! same calls in the same situations. Where that is a defect, the test says which one, and what
//! takes its place.

use std::fs;

use crate::support::Peer;

mod backends;
mod bytes;
mod gates;
mod losses;
mod members;
mod recording;
mod stage;

/// A node with these flags, which beats as fast as the played ones.
async fn ours(flags: &[&str]) -> Peer {
    Peer::start(&[&["--hb", "300ms"], flags].concat()).await
}

/// A master as most recordings have it.
async fn master() -> Peer {
    ours(&["--is-master", "--services", "MasterT=T"]).await
}

async fn member(master: &Peer, services: &str) -> Peer {
    ours(&["--master", &master.node(), "--services", services]).await
}

async fn gate(master: &Peer, services: &str) -> Peer {
    ours(&[
        "--master",
        &master.node(),
        "--services",
        services,
        "--client",
        "127.0.0.1:0",
    ])
    .await
}

#[test]
fn every_recording_is_replayed() {
    let tests = concat!(
        include_str!("nodes/backends.rs"),
        include_str!("nodes/bytes.rs"),
        include_str!("nodes/gates.rs"),
        include_str!("nodes/losses.rs"),
        include_str!("nodes/members.rs")
    );
    for file in fs::read_dir(recording::folder()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(tests.contains(&format!("load(\"{name}\")")), "{name}");
    }
}
