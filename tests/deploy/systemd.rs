//! The credentials of `deploy/systemd/nano@.service`.

use std::{collections::BTreeMap, fs};

use nano::{App, Config, testing::TestNode};

use crate::{programs::blocks, read};

/// Where systemd puts the credentials of the instance `gate`.
const DIRECTORY: &str = "/run/credentials/nano@gate.service/";
/// Where they come from.
const STORE: &str = "/etc/credstore/";

/// The names of the instance's credentials, and of their files in the store.
fn credentials() -> BTreeMap<String, String> {
    let unit = read("deploy/systemd/nano@.service").replace("%i", "gate");
    let lines = unit.lines();
    let found = lines.filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'));
    found
        .map(|(name, file)| (name.to_owned(), file.to_owned()))
        .collect()
}

/// The words that follow this in a text.
fn words_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let words = text.split(before).skip(1);
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.';
    words.filter_map(|word| word.split(ends).next()).collect()
}

#[test]
fn the_unit_has_the_credentials_of_the_tutorial_and_starts_without_them() {
    let (credentials, tutorial) = (credentials(), read("docs/tutorial/production.md"));
    // An absolute path that leads nowhere would keep the unit from starting.
    assert!(credentials.values().all(|file| !file.contains('/')));
    let mut files: Vec<_> = credentials.values().map(String::as_str).collect();
    let mut stored = words_after(&tutorial, STORE);
    files.sort_unstable();
    stored.sort_unstable();
    assert_eq!(files, stored);
    let mut used = words_after(&tutorial, DIRECTORY);
    used.sort_unstable();
    used.dedup();
    let names: Vec<_> = credentials.keys().map(String::as_str).collect();
    assert_eq!(names, used);
}

#[tokio::test]
async fn a_node_starts_with_the_credentials_that_the_tutorial_names() {
    let tutorial = read("docs/tutorial/production.md");
    let mut all = blocks(&tutorial, "text").into_iter();
    let block = all.find(|it| it.starts_with("[cluster]\n")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}/", folder.path().display());
    let config = block
        .replace(DIRECTORY, &path)
        .replace("/etc/nano/", &path)
        .replace(
            "[cluster]\n",
            "[cluster]\nmaster = true\nlisten = \"127.0.0.1:0\"\n",
        )
        .replace("[admin]\n", "[admin]\naddress = \"127.0.0.1:0\"\n")
        .replace(
            "[[listeners]]\n",
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n",
        );
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    for file in ["chain.pem", "node.pem", "ca.pem"] {
        write(file, &pair.cert.pem());
    }
    for file in ["tls-key", "cluster-key"] {
        write(file, &pair.signing_key.serialize_pem());
    }
    for file in ["cluster-token", "admin-token"] {
        write(file, "swordfish\n");
    }
    let config: Config = config.parse().unwrap();
    let node = TestNode::start(App::new().config(&config)).await;
    assert!(node.handle().is_ready());
    assert!(node.handle().admin_address().is_some());
}
