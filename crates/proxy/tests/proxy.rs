//! The proxy before a server that echoes.

use std::future::Future;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tenure_proxy::{Direction, Door, Ending, Flow, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A bound for what has to happen at last.
const PATIENCE: Duration = Duration::from_secs(50);
/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(100);

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("what has to happen has not happened")
}

/// A server that sends back what it gets, and ends when its client does.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    format!("http://{address}")
}

async fn dial(proxy: &Proxy) -> std::io::Result<TcpStream> {
    TcpStream::connect(proxy.endpoint().trim_start_matches("http://")).await
}

async fn set_out() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(&echo().await).unwrap();
    let mut stream = dial(&proxy).await.unwrap();
    echoes(&mut stream, b"hello").await;
    (proxy, stream)
}

async fn echoes(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    comes(stream, bytes).await;
}

async fn comes(stream: &mut TcpStream, bytes: &[u8]) {
    let mut echo = vec![0; bytes.len()];
    patiently(stream.read_exact(&mut echo)).await.unwrap();
    assert_eq!(echo, bytes);
}

async fn is_silent(stream: &mut TcpStream) {
    let read = timeout(SILENCE, stream.read(&mut [0; 1])).await;
    assert!(read.is_err(), "something came: {read:?}");
}

#[tokio::test]
async fn passes_everything_and_the_ends_one_by_one() {
    let (proxy, mut stream) = set_out().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut echo = Vec::new();
    let (_, received) = patiently(async { tokio::join!(send, read.read_to_end(&mut echo)) }).await;
    assert_eq!(received.unwrap(), bytes.len());
    assert!(echo == bytes);
    assert_eq!(proxy.passed(Direction::Down), bytes.len() as u64 + 5);
    assert_eq!(proxy.accepted(), 1);
    patiently(async {
        while proxy.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_delay_holds_each_piece_back_and_not_the_line() {
    const DELAY: Duration = Duration::from_secs(3);
    let (proxy, mut stream) = set_out().await;
    proxy.flow(Direction::Up, Flow::Delay(DELAY));
    let begun = Instant::now();
    for piece in [b"a", b"b", b"c"] {
        stream.write_all(piece).await.unwrap();
        is_silent_for(&mut stream, Duration::from_millis(20)).await;
    }
    comes(&mut stream, b"abc").await;
    assert!(begun.elapsed() >= DELAY + Duration::from_millis(40));
}

async fn is_silent_for(stream: &mut TcpStream, time: Duration) {
    assert!(timeout(time, stream.peek(&mut [0; 1])).await.is_err());
}

#[tokio::test]
async fn what_is_held_comes_through_later() {
    for held in [Direction::Up, Direction::Down] {
        let (proxy, mut stream) = set_out().await;
        proxy.flow(held, Flow::Hold);
        stream.write_all(b"held").await.unwrap();
        is_silent(&mut stream).await;
        proxy.flow(held, Flow::Pass);
        comes(&mut stream, b"held").await;
        echoes(&mut stream, b"and on").await;
    }
}

#[tokio::test]
async fn byte_by_byte_everything_comes() {
    let (proxy, mut stream) = set_out().await;
    proxy.flow(Direction::Up, Flow::Bytewise);
    proxy.flow(Direction::Down, Flow::Bytewise);
    echoes(&mut stream, &[7; 5000]).await;
}

#[tokio::test]
async fn a_cut_ends_every_connection_and_no_later_one() {
    let (proxy, mut closed) = set_out().await;
    proxy.cut(Ending::Close);
    assert_eq!(patiently(closed.read(&mut [0; 1])).await.unwrap(), 0);

    let mut reset = dial(&proxy).await.unwrap();
    echoes(&mut reset, b"new").await;
    proxy.cut(Ending::Reset);
    let cause = patiently(reset.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(cause.kind(), ErrorKind::ConnectionReset);
    echoes(&mut dial(&proxy).await.unwrap(), b"new").await;
}

#[tokio::test]
async fn a_cut_after_some_bytes_comes_just_behind_them() {
    let (proxy, mut stream) = set_out().await;
    proxy.cut_after(Direction::Down, 7, Ending::Reset);
    echoes(&mut stream, b"123").await;
    assert!(proxy.is_cut_due());
    stream.write_all(b"4567890").await.unwrap();
    comes(&mut stream, b"4567").await;
    let cause = patiently(stream.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(cause.kind(), ErrorKind::ConnectionReset);
    assert!(!proxy.is_cut_due());

    proxy.cut_after(Direction::Up, 2, Ending::Close);
    let mut stream = dial(&proxy).await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    let mut echo = Vec::new();
    patiently(stream.read_to_end(&mut echo)).await.unwrap();
    assert!(echo.len() <= 2, "{echo:?}");
}

#[tokio::test]
async fn a_door_that_refuses_opens_again_and_those_inside_stay() {
    let (proxy, mut inside) = set_out().await;
    proxy.door(Door::Refusing);
    let cause = dial(&proxy).await.unwrap_err();
    assert_eq!(cause.kind(), ErrorKind::ConnectionRefused);
    echoes(&mut inside, b"still here").await;
    proxy.door(Door::Open);
    echoes(&mut dial(&proxy).await.unwrap(), b"in").await;
}

#[tokio::test]
async fn a_black_hole_lets_nobody_hear_anything_until_it_heals() {
    let (proxy, mut inside) = set_out().await;
    proxy.black_hole();
    inside.write_all(b"late").await.unwrap();
    assert!(timeout(SILENCE, dial(&proxy)).await.is_err(), "somebody got in");
    is_silent(&mut inside).await;
    proxy.heal();
    comes(&mut inside, b"late").await;
    echoes(&mut patiently(dial(&proxy)).await.unwrap(), b"in").await;
}

#[tokio::test]
async fn without_a_server_those_who_come_are_reset() {
    // Nobody listens on port 1.
    let proxy = Proxy::start("127.0.0.1:1").unwrap();
    // It may come while the client still dials.
    let heard = async { dial(&proxy).await?.read(&mut [0; 1]).await };
    assert_eq!(
        patiently(heard).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn dropped_it_ends_its_connections_and_closes_its_port() {
    let (proxy, mut stream) = set_out().await;
    let address = proxy.endpoint().trim_start_matches("http://").to_owned();
    drop(proxy);
    assert!(matches!(
        patiently(stream.read(&mut [0; 1])).await,
        Ok(0) | Err(_)
    ));
    assert!(TcpStream::connect(address).await.is_err());
}
