//! Endpoints from SRV records, of a DNS server that a test makes up.

use std::net::SocketAddr;

use tenure::client::Discovery;
use tenure::{Client, Code};
use tenure_testserver::Server;
use tokio::net::UdpSocket;

/// The name of a record, without its last dot, and where it leads: priority,
/// weight, port, host.
type Zone = Vec<(&'static str, Vec<(u16, u16, u16, &'static str)>)>;

const SRV: u16 = 33;
const NO_SUCH_NAME: u8 = 3;

async fn dns(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let _ = socket.send_to(&answer(&query[..length], &zone), from).await;
        }
    });
    address
}

/// The answer to a query with one question (RFC 1035, section 4).
fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let (name, question) = question(query);
    let records = zone.iter().find(|(owner, _)| *owner == name).map(|(_, records)| records);
    let count = u16::try_from(records.map_or(0, Vec::len)).unwrap();
    let code = if records.is_some() { 0 } else { NO_SUCH_NAME };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1]);
    answer.extend(count.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question);
    for (priority, weight, port, host) in records.into_iter().flatten() {
        let mut data = Vec::new();
        for number in [priority, weight, port] {
            data.extend(number.to_be_bytes());
        }
        for label in host.split('.').filter(|label| !label.is_empty()) {
            data.push(u8::try_from(label.len()).unwrap());
            data.extend(label.as_bytes());
        }
        data.push(0);
        // The name again, by where it stands; class IN, a minute to live.
        answer.extend([0xc0, 12]);
        answer.extend(SRV.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    answer
}

fn question(query: &[u8]) -> (String, &[u8]) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), &query[12..at + 5])
}

#[tokio::test]
async fn https_comes_first_and_then_priority_and_weight() {
    let zone = vec![
        (
            "_etcd-client._tcp.example.com",
            vec![(0, 0, 2379, "plain.example.com")],
        ),
        (
            "_etcd-client-ssl._tcp.example.com",
            vec![
                (2, 0, 1, "last.example.com"),
                (1, 1, 2, "light.example.com"),
                (1, 9, 3, "heavy.example.com"),
            ],
        ),
        (
            "_etcd-client-blue._tcp.example.com",
            vec![(0, 0, 7, "blue.example.com")],
        ),
    ];
    let discovery = Discovery::new("example.com").dns_server(dns(zone).await);
    let encrypted = [
        "https://heavy.example.com:3",
        "https://light.example.com:2",
        "https://last.example.com:1",
    ];
    let all = discovery.endpoints().await.expect("records");
    assert_eq!(all[..3], encrypted);
    assert_eq!(all[3..], ["http://plain.example.com:2379"]);
    assert_eq!(
        discovery.clone().tls_only(true).endpoints().await.expect("records"),
        encrypted
    );
    assert_eq!(
        discovery.name("blue").endpoints().await.expect("records"),
        ["http://blue.example.com:7"]
    );
}

#[tokio::test]
async fn a_client_connects_to_what_was_found() {
    let server = Server::start().await.expect("a server");
    let port = server.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let zone = vec![("_etcd-client._tcp.example.com", vec![(0, 0, port, "localhost")])];
    let discovery = Discovery::new("example.com.").dns_server(dns(zone).await);
    let client = Client::connect(discovery.endpoints().await.expect("records")).await.expect("a client");
    client.put("key", "value").await.expect("a put");
}

#[tokio::test]
async fn a_domain_without_records_is_told_apart_from_a_server_that_does_not_answer() {
    let zone = vec![("_etcd-client._tcp.closed.example.com", vec![(0, 0, 0, "")])];
    let server = dns(zone).await;
    for domain in ["example.com", "closed.example.com"] {
        let error = Discovery::new(domain).dns_server(server).endpoints().await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error:?}");
    }
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Discovery::new("example.com").dns_server(nobody).endpoints().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
}
