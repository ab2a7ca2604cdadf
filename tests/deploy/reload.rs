//! What the guide says about a changed configuration.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nano::{Admin, App, Config, testing::TestNode};

use crate::{
    programs::{blocks, run},
    read,
};

/// For two pods, both at one node's address.
const KUBECTL: &str = "#!/bin/sh\n[ \"$1\" = get ] && echo pod/one pod/two || exec sleep 60\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_of_the_guide_reloads_each_node_in_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    fs::write(&file, "").unwrap();
    let reloads = Arc::new(AtomicUsize::new(0));
    let count = reloads.clone();
    let config = Config::load(&file).unwrap().on_reload(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let admin = Admin::new("127.0.0.1:0").token("tuna");
    let node = TestNode::start(App::new().config(&config).admin(admin)).await;

    let guide = read("docs/deployment.md");
    let all = blocks(&guide, "sh").into_iter();
    let mut loops = all.filter(|it| it.contains("/api/v1/reload"));
    let address = node.handle().admin_address().unwrap().to_string();
    let script = loops.next().unwrap().replace("127.0.0.1:9470", &address);
    let kubectl = folder.path().join("kubectl");
    fs::write(&kubectl, KUBECTL).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script])
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("NANO_ADMIN_TOKEN", "tuna");
    if run(Command::new("curl").arg("--version")).is_none() {
        return;
    }
    let said = tokio::task::spawn_blocking(move || run(&mut shell));
    let said = said.await.unwrap().unwrap_or_default();
    assert_eq!(said.matches("\"reloaded\":true").count(), 2, "{said}");
    assert!(said.contains("\"needs_restart\":"), "{said}");
    assert_eq!(reloads.load(Ordering::Relaxed), 2);
}
