//! Certificates of listeners that change, and certificates of clients.

use std::{fs, path::Path, sync::Arc};

use nano::{Accept, App, ClientCertificates, Listener, Node};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::{
    harness::{Client, Echo},
    listeners::Certificate,
    support::within,
};

async fn serving(certificate: &Certificate) -> Node {
    let listener = Listener::tcp("127.0.0.1:0").tls(&certificate.chain, &certificate.key);
    let app = App::new().component(Echo).listen(listener);
    app.start().await.unwrap()
}

fn replace(old: &Certificate, new: &Certificate) {
    fs::copy(&new.chain, &old.chain).unwrap();
    fs::copy(&new.key, &old.key).unwrap();
}

async fn echo_over(stream: TlsStream<TcpStream>) -> Client {
    let mut client = Client::over(stream);
    client.shake_hands().await;
    assert_eq!(client.ask("Echo.Echo", "hello").await.unwrap(), "hello");
    client
}

async fn dial(node: &Node) -> TcpStream {
    TcpStream::connect(node.addresses()[0]).await.unwrap()
}

#[tokio::test]
async fn new_certificates_are_for_new_connections_and_broken_files_change_nothing() {
    let (used, second) = (Certificate::new(), Certificate::new());
    let node = serving(&used).await;
    let mut early = echo_over(used.connect(dial(&node).await).await).await;

    // The client trusts the second certificate only, which the node begins to show.
    replace(&used, &second);
    node.handle().reload_certificates().await.unwrap();
    echo_over(second.connect(dial(&node).await).await).await;

    for (file, broken) in [(&used.key, "not PEM"), (&used.chain, "")] {
        fs::write(file, broken).unwrap();
        let error = node.handle().reload_certificates().await.unwrap_err();
        let name = file.display().to_string();
        assert!(error.message().contains(&name), "{error}");
        echo_over(second.connect(dial(&node).await).await).await;
    }
    fs::remove_file(&used.chain).unwrap();
    assert!(node.handle().reload_certificates().await.is_err());
    // The key of another certificate.
    replace(&used, &second);
    fs::copy(&Certificate::new().key, &used.key).unwrap();
    assert!(node.handle().reload_certificates().await.is_err());
    echo_over(second.connect(dial(&node).await).await).await;

    let third = Certificate::new();
    replace(&used, &third);
    node.handle().reload_certificates().await.unwrap();
    echo_over(third.connect(dial(&node).await).await).await;
    assert_eq!(early.ask("Echo.Echo", "still").await.unwrap(), "still");
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_found_within_a_minute() {
    let (used, second) = (Certificate::new(), Certificate::new());
    let node = serving(&used).await;
    replace(&used, &second);
    // The task that follows the files begins to wait.
    tokio::task::yield_now().await;
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::time::resume();
    // The files are read on a thread of their own.
    let mut shown = false;
    while !shown {
        let stream = dial(&node).await;
        shown = within("TLS", connect(stream, &second.chain, None))
            .await
            .is_ok();
    }
}

async fn connect(
    stream: TcpStream,
    authority: &Path,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(
    by: &CertifiedIssuer<'static, KeyPair>,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["player".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (vec![certificate.der().clone()], key)
}

#[tokio::test]
async fn a_listener_may_ask_for_client_certificates_which_the_hook_sees() {
    let server = Certificate::new();
    let (ours, other) = (authority("ours"), authority("other"));
    let file = server.chain.with_file_name("authorities.pem");
    fs::write(&file, ours.pem()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook_seen = seen.clone();
    let listener = Listener::tcp("127.0.0.1:0")
        .tls(&server.chain, &server.key)
        .client_authorities(&file);
    let app = App::new()
        .component(Echo)
        .listen(listener)
        .on_handshake(move |handshake| {
            let shown = handshake
                .session()
                .extensions()
                .get::<ClientCertificates>()
                .unwrap();
            hook_seen.lock().extend(shown.chain().to_vec());
            Ok(Accept::new())
        });
    let node = app.start().await.unwrap();
    let own = signed(&ours);
    let chain = own.0.clone();
    let stream = connect(dial(&node).await, &server.chain, Some(own)).await;
    echo_over(stream.unwrap()).await;
    assert_eq!(*seen.lock(), chain);

    for own in [None, Some(signed(&other))] {
        // TLS 1.3 tells the client behind its own handshake.
        if let Ok(stream) = connect(dial(&node).await, &server.chain, own).await {
            assert!(Client::over(stream).packet().await.is_none());
        }
    }

    let without_tls = Listener::tcp("127.0.0.1:0").client_authorities(&file);
    let app = App::new().component(Echo).listen(without_tls);
    let error = app.start().await.unwrap_err();
    assert!(error.message().contains("authorities.pem"), "{error}");
}
