//! A member's database, streamed and checked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tenure::{Client, Code, Origin};
use tenure_etcd::{Binary, Cluster, Line};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::support::{client, endpoints, own_etcd, patiently, run, unimplemented};

/// A file of bbolt says so in its first page (its `meta.magic`).
const MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();
const VALUE_BYTES: usize = 256 << 10;

async fn filled(cluster: &Cluster) -> Client {
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    for key in 0..16 {
        client.put(format!("snapshot/{key}"), vec![key; VALUE_BYTES]).await.unwrap();
    }
    client
}

#[test]
fn a_snapshot_is_written_with_its_progress_and_its_checksum() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            let member = client.maintenance(&endpoints()[0]).unwrap();
            unimplemented(member.snapshot().write_to(&mut Vec::new()).await);
        });
    };
    let has_version = Binary::find().unwrap().line() >= Line::V3_6;
    run(async {
        let client = filled(&cluster).await;
        let member = client.maintenance(&cluster.endpoints()[0]).unwrap();
        let (mut file, mut seen) = (Vec::new(), Vec::new());
        let snapshot = member.snapshot().write_with_progress(&mut file, |progress| seen.push(progress));
        let summary = snapshot.await.unwrap();
        assert_eq!(summary.bytes, file.len() as u64);
        assert_eq!((file.len() % 512, &file[16..20]), (32, &MAGIC[..]));
        assert_eq!(file[file.len() - 32..], summary.sha256);
        assert!(summary.bytes > 16 * VALUE_BYTES as u64 && seen.len() > 16);
        assert!(seen.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
        let last = seen.last().unwrap();
        assert_eq!((last.bytes, last.total), (summary.bytes, summary.bytes));
        assert!(
            seen.iter().all(|progress| progress.total == summary.bytes),
            "it was told at once"
        );
        assert_eq!(summary.version.is_some(), has_version, "{:?}", summary.version);
    });
}

#[test]
fn a_slow_writer_slows_the_server_down_and_gets_all_of_it() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            let member = client.maintenance(&endpoints()[0]).unwrap();
            unimplemented(member.snapshot().silence(Duration::from_secs(1)).write_to(&mut Vec::new()).await);
        });
    };
    run(async {
        let client = filled(&cluster).await;
        let (mut writer, mut reader) = tokio::io::duplex(1024);
        let reading = tokio::spawn(async move {
            let mut file = Vec::new();
            tokio::time::sleep(Duration::from_millis(500)).await;
            reader.read_to_end(&mut file).await.map(|_| file)
        });
        let member = client.maintenance(&cluster.endpoints()[0]).unwrap();
        let summary = patiently("a snapshot", member.snapshot().write_to(&mut writer)).await.unwrap();
        drop(writer);
        assert_eq!(reading.await.unwrap().unwrap().len() as u64, summary.bytes);
        client.put("snapshot/after", "").await.unwrap();
    });
}

/// Full after so many bytes.
struct Full(usize);

impl AsyncWrite for Full {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Poll::Ready(match taken {
            0 => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => Ok(taken),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_writer_that_fails_is_the_callers_and_is_named() {
    let Some(cluster) = own_etcd(1) else {
        return run(async {
            let client = client().await;
            let member = client.maintenance(&endpoints()[0]).unwrap();
            unimplemented(member.snapshot().write_to(&mut Full(0)).await);
        });
    };
    run(async {
        let client = filled(&cluster).await;
        let member = client.maintenance(&cluster.endpoints()[0]).unwrap();
        let error = member.snapshot().write_to(&mut Full(100_000)).await.unwrap_err();
        assert_eq!((error.code(), error.origin()), (Code::Cancelled, Origin::Caller));
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        client.put("snapshot/after", "").await.unwrap();
    });
}
