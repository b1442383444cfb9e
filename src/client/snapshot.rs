//! A member's database, streamed to a writer and checked. What of it is the checksum, and
//! whether it is right, is decided in `Verified`, which knows no writer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::answers::Answers;
use super::{Client, Maintenance};
use crate::error::{Code, Delivery, Error, Origin};
use crate::net::call_options::{Addressee, CallOptions};
use crate::net::named::named;
use crate::pb::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use crate::wire::method::maintenance as method;

/// A disk that is busy may hold a server up for longer than any call.
const SILENCE_DEFAULT: Duration = Duration::from_secs(30);

/// The checksum behind the database.
const CHECKSUM_BYTES: usize = 32;

/// A database is whole sectors; etcd tells by that whether a checksum follows it.
const SECTOR_BYTES: u64 = 512;

/// A snapshot of a member's database to take, as [`Maintenance::snapshot`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a snapshot is asked for only once it is written"]
pub struct Snapshot<'a> {
    client: &'a Client,
    addressee: Addressee,
    silence: Duration,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotProgress {
    /// So many bytes were written.
    pub bytes: u64,
    /// So many it will be, as far as the server tells: with the first piece.
    pub total: u64,
}

/// A snapshot that is whole, with the right checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotSummary {
    /// The bytes that were written, the checksum at the end included.
    pub bytes: u64,
    /// The SHA-256 of the database: the last 32 bytes.
    pub sha256: [u8; CHECKSUM_BYTES],
    /// The version of the database's format. Since etcd 3.6.
    pub version: Option<String>,
}

impl<'a> Maintenance<'a> {
    /// A snapshot of the member's database, as `etcdctl snapshot save` takes it and
    /// `etcdutl snapshot restore` reads it.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use tokio::io::AsyncWriteExt;
    /// let mut file = tokio::fs::File::create("etcd.snapshot.part").await?;
    /// let member = client.maintenance("http://10.0.0.1:2379")?;
    /// let summary = member.snapshot().write_to(&mut file).await?;
    /// file.sync_all().await?;
    /// tokio::fs::rename("etcd.snapshot.part", "etcd.snapshot").await?;
    /// println!("{} bytes", summary.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Where authentication is enabled it needs the role `root`.
    pub fn snapshot(&self) -> Snapshot<'a> {
        Snapshot {
            client: self.client,
            addressee: self.addressee.clone(),
            silence: SILENCE_DEFAULT,
        }
    }
}

impl Snapshot<'_> {
    /// How long the member may take for the next piece. Default: 30 seconds. There is no other limit
    /// to how long it takes as a whole.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Takes it, and writes it. The writer is flushed at the end, and neither synced nor
    /// shut down.
    ///
    /// A piece (32 KiB as etcd sends them) is written before the next one is read: a slow writer
    /// slows the server down, and holds no more than the stream's
    /// [window](crate::Config::stream_window_bytes).
    ///
    /// # Errors
    ///
    /// What the server says; [`Code::DataLoss`] where the checksum is not that of what came, or is
    /// missing; [`Code::Cancelled`] of [`Origin::Caller`] where the writer failed, with its error
    /// as the source. It is never begun anew by itself: what is written cannot be taken back.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, or failed, it leaves a part of a snapshot with the writer,
    /// which is no snapshot: the checksum is written last, and only when it is right, so
    /// that etcd refuses to restore such a part.
    pub async fn write_to<W>(self, writer: &mut W) -> Result<SnapshotSummary, Error>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        self.write_with_progress(writer, |_| {}).await
    }

    /// As [`Snapshot::write_to`]; `progress` is told after each piece.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::write_to`].
    ///
    /// # Cancel safety
    ///
    /// As [`Snapshot::write_to`].
    pub async fn write_with_progress<W>(
        self,
        writer: &mut W,
        mut progress: impl FnMut(SnapshotProgress),
    ) -> Result<SnapshotSummary, Error>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        let name =
            |error| named(error, &method::SNAPSHOT, Some(self.addressee.name().into())).with_attempts(1);
        let mut pieces = self.pieces();
        let (mut verified, mut version) = (Verified::default(), String::new());
        let (mut total, mut was_empty) = (None, false);
        while let Some(piece) = pieces.next(Some(self.silence)).await? {
            // etcd may send one; whoever sends nothing else never ends.
            if std::mem::replace(&mut was_empty, piece.blob.is_empty()) && was_empty {
                return Err(name(broken("a snapshot of empty pieces")));
            }
            let of_database = (piece.blob.len() as u64).saturating_add(piece.remaining_bytes);
            let total = *total.get_or_insert(of_database.saturating_add(CHECKSUM_BYTES as u64));
            version = piece.version;
            for part in verified.push(piece.blob) {
                writer.write_all(&part).await.map_err(|error| name(unwritten(error)))?;
            }
            let bytes = verified.written;
            progress(SnapshotProgress {
                bytes,
                total: total.max(bytes),
            });
        }
        let (sha256, bytes) = verified.finish().map_err(|message| name(broken(message)))?;
        let end = async {
            writer.write_all(&sha256).await?;
            writer.flush().await
        };
        end.await.map_err(|error| name(unwritten(error)))?;
        progress(SnapshotProgress { bytes, total: bytes });
        Ok(SnapshotSummary {
            bytes,
            sha256,
            version: Some(version).filter(|version| !version.is_empty()),
        })
    }

    fn pieces(&self) -> Answers<SnapshotRequest, SnapshotResponse> {
        let options = CallOptions::to(self.addressee.clone());
        Answers::new(
            self.client.clone(),
            &method::SNAPSHOT,
            SnapshotRequest {},
            options,
        )
    }
}

fn broken(message: &'static str) -> Error {
    Error::new(Code::DataLoss, Origin::Transport, Delivery::Answered, message)
}

fn unwritten(error: std::io::Error) -> Error {
    let message = "the snapshot could not be written";
    Error::new(Code::Cancelled, Origin::Caller, Delivery::Answered, message).with_source(error)
}

/// The database as it passes by. The last 32 bytes so far may be the checksum, and are kept back.
#[derive(Default)]
struct Verified {
    sha: Sha256,
    tail: Bytes,
    written: u64,
}

impl Verified {
    /// What is certain to be no checksum, in order.
    fn push(&mut self, piece: Bytes) -> [Bytes; 2] {
        let (mut first, mut piece) = (std::mem::take(&mut self.tail), piece);
        if piece.len() < CHECKSUM_BYTES {
            let mut joined = BytesMut::from(first);
            joined.extend_from_slice(&piece);
            (first, piece) = (Bytes::new(), joined.freeze());
        }
        self.tail = piece.split_off(piece.len().saturating_sub(CHECKSUM_BYTES));
        let parts = [first, piece];
        for part in &parts {
            self.sha.update(part);
            self.written += part.len() as u64;
        }
        parts
    }

    /// The checksum, which was right, and the size with it.
    fn finish(self) -> Result<([u8; CHECKSUM_BYTES], u64), &'static str> {
        if self.written == 0 || self.written % SECTOR_BYTES != 0 || self.tail.len() != CHECKSUM_BYTES {
            return Err("a snapshot without its checksum");
        }
        let sha256: [u8; CHECKSUM_BYTES] = self.sha.finalize().into();
        match self.tail[..] == sha256 {
            true => Ok((sha256, self.written + CHECKSUM_BYTES as u64)),
            false => Err("a snapshot with the wrong checksum"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
    }

    fn with_checksum(mut database: Vec<u8>) -> Vec<u8> {
        let sha = Sha256::digest(&database);
        database.extend_from_slice(&sha);
        database
    }

    /// What is written before the checksum, in pieces of this size, and what is made of it.
    fn passed(snapshot: &[u8], piece: usize) -> (Vec<u8>, Result<u64, &'static str>) {
        let (mut verified, mut written) = (Verified::default(), Vec::new());
        for piece in snapshot.chunks(piece) {
            verified
                .push(Bytes::copy_from_slice(piece))
                .iter()
                .for_each(|part| written.extend_from_slice(part));
        }
        (written, verified.finish().map(|(_, bytes)| bytes))
    }

    #[test]
    fn a_snapshot_in_pieces_of_any_size_is_its_database_and_a_checksum() {
        let database = database(2048);
        let snapshot = with_checksum(database.clone());
        for piece in [1, 2, 31, 32, 33, 511, 512, 2048, 2080, 4096] {
            let (written, end) = passed(&snapshot, piece);
            assert_eq!((written == database, end), (true, Ok(2080)), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_whole_snapshot_is_refused_and_lacks_its_checksum() {
        let whole = with_checksum(database(1024));
        let mut flipped = whole.clone();
        flipped[500] ^= 1;
        let mut wrong = whole.clone();
        wrong[1030] ^= 1;
        let odd = with_checksum(database(1000));
        let cut = &whole[..600];
        let unsigned = &whole[..1024];
        let none: &[u8] = &[];
        let only = &with_checksum(Vec::new());
        let broken: [&[u8]; 7] = [&flipped, &wrong, &odd, cut, unsigned, none, only];
        for snapshot in broken {
            for piece in [7, 32, 4096] {
                let (written, end) = passed(snapshot, piece);
                assert!(end.is_err());
                assert!(written.len() + CHECKSUM_BYTES <= snapshot.len().max(CHECKSUM_BYTES));
            }
        }
    }

    #[test]
    fn a_snapshot_reads_the_same_as_sha256_everywhere() {
        // FIPS 180-2, appendix B.1.
        let sha = Sha256::digest(b"abc");
        assert_eq!(sha[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
