//! A real etcd with TLS. It reads its certificate anew for each connection, so one
//! server shows a client every certificate that a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure::{Client, Config, Dial, Dialing, Endpoint, Error, Io, Tls, TlsFailure};
use tenure_etcd::{Binary, Cluster, Options};
use tokio::net::TcpStream;

use crate::authority::{Authority, HERE, Validity, replace};

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(40);

struct Etcd {
    cluster: Cluster,
    authority: Authority,
}

impl Etcd {
    /// With `mutual`, it wants a client certificate from the same authority.
    fn start(mutual: bool) -> Etcd {
        let authority = Authority::new();
        let socket = authority.dir().join("etcd.sock");
        let options = Options {
            listen: vec![
                "https://127.0.0.1:0".to_owned(),
                format!("unixs://{}", socket.display()),
            ],
            arguments: authority.flags_of_etcd(mutual),
            ..Options::default()
        };
        let binary = Binary::find().expect("an etcd");
        let cluster = Cluster::start(&binary, 1, options).expect("a cluster");
        Etcd { cluster, authority }
    }

    fn https(&self) -> &str {
        &self.cluster.member(0).listens_at()[0]
    }

    fn socket(&self) -> &str {
        &self.cluster.member(0).listens_at()[1]
    }

    fn tls(&self) -> Tls {
        Tls::new().ca_file(self.authority.ca_file())
    }

    async fn connect(&self, tls: Tls) -> Result<Client, Error> {
        Client::connect_with([self.https()], Config::new().tls(tls)).await
    }

    async fn failure(&self, tls: Tls) -> Option<TlsFailure> {
        let error = self.connect(tls).await.map(drop).expect_err("no connection can be had");
        assert!(!error.is_timeout(), "{error:?}");
        // Seen where the test fails.
        eprintln!("{error:?}");
        error.tls()
    }
}

async fn works(client: &Client) {
    client.put("tls", "works").await.expect("a put");
    let answer = client.get("tls").await.expect("a get");
    assert_eq!(answer.kvs[0].value, "works");
}

#[tokio::test]
async fn calls_and_watches_go_through_tls_and_encrypted_sockets() {
    let etcd = Etcd::start(false);
    for endpoint in [etcd.https(), etcd.socket()] {
        let client = Client::connect_with([endpoint], Config::new().tls(etcd.tls())).await.expect("a client");
        works(&client).await;
        let mut watch = client.watch("tls").await.expect("a watch");
        client.put("tls", vec![7; 300_000]).await.expect("a large put");
        let batch = watch.next().await.expect("an event");
        assert_eq!(batch.events.len(), 1, "{endpoint}");
        let guard = client.session().await.expect("a session").mutex("tls").lock().await.expect("a lock");
        guard.release().await.expect("a release");
    }
}

#[tokio::test]
async fn a_certificate_of_the_server_that_is_wrong_is_named() {
    let etcd = Etcd::start(false);
    let stranger = Authority::new();
    assert_eq!(
        etcd.failure(Tls::new().ca_pem(stranger.ca_pem())).await,
        Some(TlsFailure::UnknownIssuer)
    );
    assert_eq!(
        etcd.failure(etcd.tls().server_name("elsewhere.example")).await,
        Some(TlsFailure::WrongName)
    );
    assert_eq!(
        etcd.failure(etcd.tls().server_name("no name")).await,
        Some(TlsFailure::InvalidName)
    );
    for (names, validity, failure) in [
        (&["elsewhere.example"][..], Validity::Now, TlsFailure::WrongName),
        (HERE, Validity::Past, TlsFailure::Expired),
        (HERE, Validity::Future, TlsFailure::NotYetValid),
    ] {
        etcd.authority.issue_files("server", names, validity);
        assert_eq!(etcd.failure(etcd.tls()).await, Some(failure));
    }
    // The name that is expected can be another than the endpoint's.
    etcd.authority.issue_files("server", &["elsewhere.example"], Validity::Now);
    works(&etcd.connect(etcd.tls().server_name("elsewhere.example")).await.expect("a client")).await;
}

/// Two ways to one endpoint, in turn, and how many of them led to a server.
#[derive(Default)]
struct Ways {
    addresses: Vec<String>,
    dialled: AtomicUsize,
    reached: AtomicUsize,
}

#[derive(Clone)]
struct InTurn(Arc<Ways>);

impl Dial for InTurn {
    fn dial(&self, _: &Endpoint) -> Dialing {
        let nth = self.0.dialled.fetch_add(1, Ordering::SeqCst);
        let address = self.0.addresses[nth % self.0.addresses.len()].clone();
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Io>) })
    }

    fn reached(&self, _: &Endpoint) {
        self.0.reached.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_way_to_a_server_with_a_wrong_certificate_is_not_one_that_led_there() {
    let (etcd, stranger) = (Etcd::start(false), Etcd::start(false));
    let address = |etcd: &Etcd| etcd.https().trim_start_matches("https://").to_owned();
    let ways = InTurn(Arc::new(Ways {
        addresses: vec![address(&stranger), address(&etcd)],
        ..Ways::default()
    }));
    let connect = || Client::connect_over(ways.clone(), [etcd.https()], Config::new().tls(etcd.tls()));
    let error = connect().await.map(drop).expect_err("a stranger");
    assert_eq!(error.tls(), Some(TlsFailure::UnknownIssuer));
    assert_eq!(ways.0.reached.load(Ordering::SeqCst), 0);
    works(&connect().await.expect("a client")).await;
    assert_eq!(ways.0.reached.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_the_server_does_not_know_is_told_so_when_it_connects() {
    let etcd = Etcd::start(true);
    assert_eq!(
        etcd.failure(etcd.tls()).await,
        Some(TlsFailure::ClientCertificateRequired)
    );
    let (chain, key) = Authority::new().issue(&["client"], Validity::Now);
    assert_eq!(
        etcd.failure(etcd.tls().identity_pem(chain, key)).await,
        Some(TlsFailure::ClientCertificateRefused)
    );
    let (chain, key) = etcd.authority.issue(&["client"], Validity::Now);
    works(&etcd.connect(etcd.tls().identity_pem(chain, key)).await.expect("a client")).await;
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let etcd = Etcd::start(false);
    let plain = etcd.cluster.endpoints()[0].replace("http://", "https://");
    let error = Client::connect_with([plain], Config::new().tls(etcd.tls())).await.unwrap_err();
    // It hangs up on what is no HTTP; the scripted tests have one that answers.
    assert_eq!(error.tls(), Some(TlsFailure::Closed), "{error:?}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let etcd = Etcd::start(false);
    let (chain, _) = etcd.authority.issue(&["client"], Validity::Now);
    let (_, key) = etcd.authority.issue(&["client"], Validity::Now);
    for tls in [
        Tls::new().ca_file(etcd.authority.dir().join("missing.pem")),
        Tls::new().ca_pem("nothing in it"),
        etcd.tls().identity_pem(chain.clone(), "no key"),
        etcd.tls().identity_pem(chain, key),
    ] {
        assert_eq!(
            etcd.failure(tls.clone()).await,
            Some(TlsFailure::Files),
            "{tls:?}"
        );
    }
}

#[tokio::test]
async fn certificates_renewed_on_disk_are_used_without_a_restart() {
    let etcd = Etcd::start(true);
    let (chain, key) = etcd.authority.issue_files("client", &["client"], Validity::Now);
    let tls = etcd.tls().identity_files(&chain, &key);
    let client = etcd.connect(tls).await.expect("a client");
    works(&client).await;

    // Half of a renewal: the certificate and the key are not of one pair. What was
    // there before still serves.
    let (renewed_chain, renewed_key) = etcd.authority.issue(&["renewed"], Validity::Now);
    replace(&chain, &renewed_chain);
    etcd.cluster.member(0).restart().expect("a restart");
    until_it_works(&client).await;

    // A renewal that the server refuses is seen at the next connection: so it was read.
    let (strange_chain, strange_key) = Authority::new().issue(&["stranger"], Validity::Now);
    replace(&chain, &strange_chain);
    replace(&key, &strange_key);
    etcd.cluster.member(0).restart().expect("a restart");
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            let refused = client.get("tls").timeout(Duration::from_secs(1)).await.map(drop);
            if let Err(error) = refused.as_ref().map_err(|error| error.tls()) {
                if error.is_some() {
                    return error;
                }
            }
        }
    });
    assert_eq!(
        error.await.expect("a refusal"),
        Some(TlsFailure::ClientCertificateRefused)
    );

    replace(&chain, &renewed_chain);
    replace(&key, &renewed_key);
    until_it_works(&client).await;
}

async fn until_it_works(client: &Client) {
    let works = async { while client.get("tls").timeout(Duration::from_secs(1)).await.is_err() {} };
    tokio::time::timeout(PATIENCE, works).await.expect("a call gets through");
}
