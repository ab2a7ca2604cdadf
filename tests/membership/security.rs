//! The cluster token and TLS keep other programs out.

use std::{fs, path::PathBuf, time::Duration};

use nano::{ClusterTls, code};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Code, transport::Endpoint};

use crate::{
    go::{
        MasterClient, MemberClient,
        proto::{NewMemberRequest, RegisterRequest},
    },
    nodes::{Living, master, member},
    support::MemberApp,
};

#[tokio::test]
async fn only_nodes_with_the_token_join() {
    let master = Living::start(master().token("swordfish")).await;
    for (app, what) in [
        (member(master.address()), "no cluster token"),
        (
            member(master.address()).token("swordfisH"),
            "a wrong cluster token",
        ),
    ] {
        let error = Living::try_start(app).await.err().unwrap();
        assert_eq!(error.code(), code::FORBIDDEN);
        assert!(
            error.message().contains(master.address()) && error.message().contains(what),
            "{error}"
        );
    }
    assert!(master.table().is_empty());
    let node = Living::start(member(master.address()).token("swordfish")).await;
    master.sees(&[node.address()]).await;

    // Every service of every node requires it.
    let channel = || {
        Endpoint::from_shared(format!("http://{}", node.address()))
            .unwrap()
            .connect_lazy()
    };
    let refused = MemberClient::new(channel())
        .new_member(NewMemberRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_node_without_a_token_requires_none() {
    let master = Living::start(master()).await;
    let node = Living::start(member(master.address()).token("unused")).await;
    master.sees(&[node.address()]).await;
}

#[tokio::test]
async fn only_nodes_with_a_certificate_of_the_cluster_join() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = |authority: &Authority| authority.tls().server_name("nano.cluster");
    let master = Living::start(master().tls(tls(&ours))).await;
    let refused: Vec<(MemberApp, &str)> = vec![
        (member(master.address()), "without TLS"),
        (
            member(master.address()).tls(tls(&theirs)),
            "of another authority",
        ),
        (
            member(master.address()).tls(mixed(&ours, &theirs).server_name("nano.cluster")),
            "with a certificate of another authority",
        ),
        (
            member(master.address()).tls(ours.tls().server_name("other.name")),
            "that expects another name",
        ),
    ];
    for (app, what) in refused {
        assert!(
            timeout(Duration::from_millis(700), Living::try_start(app))
                .await
                .is_err(),
            "a node {what} joined"
        );
    }
    let plain = Endpoint::from_shared(format!("http://{}", master.address()))
        .unwrap()
        .connect_lazy();
    assert!(
        MasterClient::new(plain)
            .register(RegisterRequest::default())
            .await
            .is_err()
    );
    assert!(master.table().is_empty());

    let (a, b) = (
        Living::start(member(master.address()).tls(tls(&ours))).await,
        Living::start(member(master.address()).tls(tls(&ours))).await,
    );
    a.sees(&[master.address(), b.address()]).await;
    b.sees(&[master.address(), a.address()]).await;
}

#[tokio::test]
async fn without_client_certificates_any_caller_is_encrypted() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let master = Living::start(
        master().tls(
            ours.tls()
                .server_name("nano.cluster")
                .without_client_certificates(),
        ),
    )
    .await;
    let app = member(master.address()).tls(
        mixed(&ours, &theirs)
            .server_name("nano.cluster")
            .without_client_certificates(),
    );
    let node = Living::start(app).await;
    master.sees(&[node.address()]).await;
}

#[tokio::test]
async fn invalid_certificate_files_are_an_error_that_names_the_option() {
    let ours = Authority::new();
    fs::write(ours.path("key.pem"), "rubbish").unwrap();
    let error = master().tls(ours.tls()).start().await.unwrap_err();
    assert!(error.message().contains("cluster.tls"), "{error}");
}

/// The files of a certificate authority and one node.
pub(crate) struct Authority(TempDir);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["nano.cluster".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.path("ca.pem"), authority.pem()).unwrap();
        fs::write(files.path("node.pem"), certificate.pem()).unwrap();
        fs::write(files.path("key.pem"), key.serialize_pem()).unwrap();
        files
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn tls(&self) -> ClusterTls {
        ClusterTls::new(
            self.path("node.pem"),
            self.path("key.pem"),
            self.path("ca.pem"),
        )
    }
}

/// Trusts the first, but shows a certificate of the second.
fn mixed(trusted: &Authority, shown: &Authority) -> ClusterTls {
    ClusterTls::new(
        shown.path("node.pem"),
        shown.path("key.pem"),
        trusted.path("ca.pem"),
    )
}
