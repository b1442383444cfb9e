//! Dials that fail, and settings with which no connection can be made: all end
//! with an error, none with a hang.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tenure::{Client, Code, Config, Delivery, Dialing, Endpoint, Io};
use tokio::io::AsyncReadExt;
use tokio::runtime::Builder;

/// A bound for what has to happen at last; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(50);

/// What comes of `future` on a runtime of its own, which need have no clock.
fn ends<T: Send + 'static>(runtime: &mut Builder, future: impl Future<Output = T> + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    let runtime = runtime.build().unwrap();
    std::thread::spawn(move || done.send(runtime.block_on(future)));
    ended.recv_timeout(PATIENCE).expect("a hang, or a panic in the caller's task")
}

#[test]
fn a_runtime_without_io_or_time_is_no_place_to_connect() {
    let connect = || async { Client::connect(["http://127.0.0.1:1"]).await.map(drop) };
    for runtime in [
        &mut Builder::new_current_thread(),
        Builder::new_current_thread().enable_time(),
    ] {
        ends(runtime, connect()).expect_err("nothing can be dialled");
    }
}

#[test]
fn a_window_that_http2_does_not_know_does_not_hang() {
    let connect = async {
        let (ours, _theirs) = tokio::io::duplex(1 << 16);
        let config = Config::default().connection_window_bytes(u32::MAX);
        Client::over(ours, config).await.map(drop)
    };
    // Whether it is refused or bounded is not the matter here.
    let _ = ends(Builder::new_current_thread().enable_all(), connect);
}

#[test]
fn a_dial_that_panics_is_a_dial_that_failed() {
    let connect = async {
        let dial = |_: &Endpoint| -> Dialing { Box::pin(async { panic!("a bug in the caller's dial") }) };
        Client::connect_over(dial, ["http://pipe"], Config::default()).await.map(drop)
    };
    ends(Builder::new_current_thread().enable_all(), connect).expect_err("there is no connection");
}

#[tokio::test]
async fn a_connection_that_is_lost_before_it_is_up_leaves_nothing_in_doubt() {
    let dial = |_: &Endpoint| -> Dialing {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move { theirs.read_exact(&mut [0; 24]).await });
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Io>) })
    };
    let error = Client::connect_over(dial, ["a"], Config::default()).await.unwrap_err();
    let mut link: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = link {
        let text = error.to_string();
        assert!(!text.contains("may have been applied"), "{text}");
        link = error.source();
    }
}

#[tokio::test]
async fn a_port_that_is_none_is_refused_before_anything_is_dialled() {
    for text in [
        "127.0.0.1:99999",
        "127.0.0.1:http",
        "127.0.0.1:",
        "http://[::1]:70000",
        "[]:1",
    ] {
        let dial = |endpoint: &Endpoint| -> Dialing { panic!("{endpoint:?} was dialled") };
        let error = Client::connect_over(dial, [text], Config::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{text}: {error}");
    }
}

/// Says when it is dropped.
struct Tell(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(());
        }
    }
}

#[tokio::test]
async fn a_client_that_is_dropped_while_it_dials_ends_the_dial() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(Tell(Some(tell))));
    let dial = move |_: &Endpoint| -> Dialing {
        let tell = tell.lock().unwrap().take();
        Box::pin(async move {
            let _tell = tell;
            std::future::pending().await
        })
    };
    let config = Config::default().connect_timeout(Duration::from_secs(3600));
    let connecting = Client::connect_over(dial, ["http://black.hole"], config);
    let connecting = tokio::time::timeout(Duration::from_millis(50), connecting).await;
    assert!(connecting.is_err(), "nobody answered the dial");
    let told = tokio::time::timeout(PATIENCE, told).await;
    assert!(told.is_ok_and(|told| told.is_ok()), "the task goes on dialling");
}

#[test]
fn a_client_whose_runtime_is_gone_says_so_before_the_deadline() {
    let first = tokio::runtime::Runtime::new().unwrap();
    let (ours, _theirs) = tokio::io::duplex(1 << 16);
    let client = first.block_on(Client::over(ours, Config::default())).unwrap();
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    let error = second.block_on(client.put("key", "value").into_future()).unwrap_err();
    assert_eq!(
        (error.code(), error.delivery()),
        (Code::Unavailable, Delivery::NotSent),
        "{error}"
    );
}
