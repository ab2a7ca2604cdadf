//! Certificates between nodes that are replaced while the nodes run.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nano::{App, Component, Config, Handlers, Node, Result, Session};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{RawClient, eventually, within};

struct Echo;

impl Component for Echo {
    fn handlers(h: Handlers<Self>) -> Handlers<Self> {
        h.on(
            "Echo",
            |_: &Self, _: &Session, text: String| -> Result<String> { Ok(text) },
        )
    }
}

/// Signs certificates of nodes.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes its own certificate, and another one for a node with its key.
    fn write(&self, folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["nano.cluster".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(folder.join("ca.pem"), self.0.pem()).unwrap();
        fs::write(folder.join("node.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }
}

/// The folder of one node.
struct Folder(TempDir);

impl Folder {
    fn new(authority: &Authority) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        authority.write(folder.0.path());
        folder
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Writes the configuration. `begin` are keys at the top, `role` and `listen` are of the cluster.
    fn configure(&self, begin: &str, role: &str, listen: &str) {
        let [certificate, key, authority] =
            ["node.pem", "key.pem", "ca.pem"].map(|file| self.path(file).display().to_string());
        let text = format!(
            "{begin}\n[cluster]\n{role}\nlisten = \"{listen}\"\nheartbeat = \"5s\"\nretry_interval = \"50ms\"\n\
             tls_server_name = \"nano.cluster\"\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n\
             tls_authority = {authority:?}"
        );
        fs::write(self.path("node.toml"), text).unwrap();
    }

    fn app(&self) -> App {
        let config = Config::load(self.path("node.toml")).unwrap();
        App::new().config(&config)
    }

    /// A node that joins the master.
    fn member(&self, master: &str) -> App {
        self.configure("", &format!("join = [\"{master}\"]"), "127.0.0.1:0");
        self.app()
    }
}

const MASTER: &str = "master = true";

fn address(node: &Node) -> String {
    node.handle().member().unwrap().address().to_owned()
}

async fn know_each_other(nodes: &[&Node]) {
    eventually("all members are known", || {
        let known = |node: &&Node| node.handle().members().len() == nodes.len() - 1;
        nodes.iter().all(known)
    })
    .await;
}

/// A request of a client of this gate, which another member answers.
async fn forwarded(gate: &Node) {
    let mut client = RawClient::tcp(gate.addresses()[0]).await;
    client.handshake().await;
    assert_eq!(client.call(1, "Echo.Echo", "\"hello\"").await, "\"hello\"");
}

#[tokio::test]
async fn a_reload_takes_the_clusters_certificates_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let folders = [(); 3].map(|()| Folder::new(&old));
    folders[0].configure("", MASTER, "127.0.0.1:0");
    let master = folders[0].app().start().await.unwrap();
    let at = address(&master);
    let room = folders[1].member(&at).component(Echo);
    let room = room.start().await.unwrap();
    let gate = folders[2].member(&at).tcp("127.0.0.1:0");
    let gate = gate.start().await.unwrap();
    know_each_other(&[&master, &room, &gate]).await;
    let mut client = RawClient::tcp(gate.addresses()[0]).await;
    client.handshake().await;
    assert_eq!(client.call(1, "Echo.Echo", "\"old\"").await, "\"old\"");

    for (folder, node) in folders.iter().zip([&master, &room, &gate]) {
        new.write(folder.0.path());
        node.handle().reload().await.unwrap();
    }
    assert_eq!(client.call(2, "Echo.Echo", "\"open\"").await, "\"open\"");
    let folder = Folder::new(&new);
    let late = folder.member(&at).tcp("127.0.0.1:0").start();
    let late = within("the new member", late).await.unwrap();
    know_each_other(&[&master, &room, &gate, &late]).await;
    forwarded(&late).await;
    forwarded(&gate).await;
    // The authority of before is not trusted by any node, nor are its certificates shown.
    let refused = Folder::new(&old);
    let refused = refused.member(&at).start();
    let joined = timeout(Duration::from_millis(700), refused).await;
    assert!(joined.is_err(), "a node with the old authority joined");

    // Channels of before are made anew with what is in use now.
    master.shutdown().await;
    folders[0].configure("", MASTER, &at);
    let master = folders[0].app().start().await.unwrap();
    know_each_other(&[&master, &room, &gate, &late]).await;
    for node in [late, gate, room, master] {
        within("the shutdown", node.shutdown()).await;
    }
}

#[tokio::test]
async fn certificates_of_the_cluster_that_are_not_valid_refuse_the_whole_reload() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new(&old);
    folder.configure("", MASTER, "127.0.0.1:0");
    let master = folder.app().start().await.unwrap();
    let at = address(&master);
    folder.configure("deny = [\"192.0.2.0/24\"]", MASTER, "127.0.0.1:0");
    let other = Folder::new(&new);
    let refused = async |file: &str, content: &str, expected: &str| {
        let kept = fs::read(folder.path(file)).unwrap();
        match content {
            "" => fs::remove_file(folder.path(file)).unwrap(),
            content => fs::write(folder.path(file), content).unwrap(),
        }
        let error = master.handle().reload().await.unwrap_err();
        let text = error.message();
        assert!(
            text.starts_with("cluster.tls: ") && text.contains(expected),
            "{text}"
        );
        assert!(master.handle().deny_list().networks().is_empty(), "{text}");
        fs::write(folder.path(file), kept).unwrap();
    };
    for file in ["ca.pem", "node.pem", "key.pem"] {
        refused(file, "rubbish", file).await;
        refused(file, "", file).await;
    }
    let key = fs::read_to_string(other.path("key.pem")).unwrap();
    refused("key.pem", &key, "unusable with the key").await;

    // What was in use still is.
    let folder = Folder::new(&old);
    let member = folder.member(&at).start();
    let member = within("a member", member).await.unwrap();
    know_each_other(&[&master, &member]).await;
    master.handle().reload().await.unwrap();
    assert_eq!(master.handle().deny_list().networks().len(), 1);
    member.shutdown().await;
    master.shutdown().await;
}
