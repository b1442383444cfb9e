//! What a scripted peer says of its health, and what becomes of that.

use h2::server::Builder;
use tenure::client::HealthStream;
use tenure::pb::health::HealthCheckResponse;
use tenure::pb::health::health_check_response::ServingStatus;
use tenure::{Code, Config};

use crate::peer::{frame, head, patiently, serve, server, trailers};

/// The words of a peer that says these, and ends with this status.
async fn saying(words: &'static [ServingStatus], status: &'static str) -> HealthStream {
    let (client, server) = server(Config::default(), &Builder::new()).await;
    serve(server, move |(request, mut respond)| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Watch");
        let mut stream = respond.send_response(head(), false).unwrap();
        for status in words {
            let status = (*status).into();
            stream.send_data(frame(&HealthCheckResponse { status }), false).unwrap();
        }
        stream.send_trailers(trailers(status)).unwrap();
    });
    let member = client.maintenance(&client.endpoints().list()[0]).expect("the one endpoint");
    member.watch_health()
}

#[tokio::test]
async fn each_word_of_a_peer_is_told_and_only_serving_is_well() {
    use ServingStatus::{NotServing, ServiceUnknown, Serving, Unknown};
    let mut health = saying(&[Serving, NotServing, Unknown, ServiceUnknown, Serving], "14").await;
    let mut said = Vec::new();
    let end = loop {
        match patiently("a word", health.next()).await {
            Ok(is_serving) => said.push(is_serving),
            Err(error) => break error,
        }
    };
    assert_eq!(said, [true, false, false, false, true]);
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn that_a_peer_ends_its_words_well_is_an_end_too() {
    let mut health = saying(&[ServingStatus::Serving], "0").await;
    assert!(patiently("a word", health.next()).await.unwrap());
    let error = patiently("an end", health.next()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.method().is_some() && error.endpoint().is_some(), "{error}");
}
