//! A game with the manifests of a clone.

use std::{fs, os::unix::fs::symlink, process::Command};

use crate::{
    programs::{blocks, run},
    read,
};

#[test]
fn a_kustomization_of_the_tutorial_puts_a_game_in_place_of_the_test_server() {
    let tutorial = read("docs/tutorial/production.md");
    let all = blocks(&tutorial, "yaml").into_iter();
    let mut all = all.filter(|it| it.contains("deploy/kubernetes]"));
    let folder = tempfile::tempdir().unwrap();
    symlink(env!("CARGO_MANIFEST_DIR"), folder.path().join("nano")).unwrap();
    let deploy = folder.path().join("my-game/deploy");
    fs::create_dir_all(&deploy).unwrap();
    let files = [
        ("kustomization.yaml", all.next().unwrap()),
        ("secrets.env", "cluster-token=swordfish\nadmin-token=tuna\n"),
        ("gate.toml", "log = \"debug\"\n"),
    ];
    for (name, content) in files {
        fs::write(deploy.join(name), content).unwrap();
    }
    let mut kubectl = Command::new("kubectl");
    let Some(made) = run(kubectl.arg("kustomize").arg(deploy)) else {
        return;
    };
    assert_eq!(
        made.matches("image: registry.example/my-game:1.0\n")
            .count(),
        3
    );
    for gone in ["nano-node", "replace-me"] {
        assert!(!made.contains(gone), "{gone}");
    }
    // In base64.
    for token in ["cluster-token: c3dvcmRmaXNo\n", "admin-token: dHVuYQ==\n"] {
        assert!(made.contains(token), "{token}");
    }
    let map = made
        .split("\n---\n")
        .find(|it| it.contains("kind: ConfigMap"));
    let map = map.unwrap();
    assert!(
        map.contains("  gate.toml: |\n    log = \"debug\"\n"),
        "{map}"
    );
    // Those that are not given stay.
    for role in ["master", "backend"] {
        assert!(
            map.contains(&format!("\n    label = \"{role}\"\n")),
            "{map}"
        );
    }
    // The pods still find them by their names.
    let map_name = "configMap:\n          name: nano\n";
    assert_eq!(made.matches(map_name).count(), 3, "{made}");
}
