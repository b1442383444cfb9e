//! MariaDB: `GET_LOCK` of a connection, by statements that are prepared once.

use std::rc::Rc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Statement};
use tenure_bench_worker::{Lock, Locker};
use tokio::sync::Mutex;

use crate::{endpoint, text};

/// It wants a time after which it gives up: one that is not reached.
const PATIENCE_SECONDS: u32 = 3600;

/// A lock is of its connection, and only one of them is there for each.
#[derive(Clone)]
pub(crate) struct MariaDb {
    connection: Rc<Mutex<Option<Conn>>>,
}

pub(crate) struct MariaDbLock {
    connection: Conn,
    lock: Statement,
    unlock: Statement,
    name: String,
}

impl Locker for MariaDb {
    type Lock = MariaDbLock;

    async fn connect(endpoints: &[String]) -> Result<MariaDb, String> {
        let (host, port) = endpoint(endpoints)?;
        // Without a socket beside it: all stores are reached over TCP.
        let options = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some("bench"))
            .prefer_socket(false)
            .wait_timeout(None);
        let connection = Conn::new(options).await.map_err(text)?;
        Ok(MariaDb {
            connection: Rc::new(Mutex::new(Some(connection))),
        })
    }

    async fn mutex(&self, name: &str) -> Result<MariaDbLock, String> {
        let mut connection =
            self.connection.lock().await.take().ok_or("its connection has a lock already")?;
        Ok(MariaDbLock {
            lock: connection.prep("SELECT GET_LOCK(?, ?)").await.map_err(text)?,
            unlock: connection.prep("SELECT RELEASE_LOCK(?)").await.map_err(text)?,
            connection,
            name: name.to_owned(),
        })
    }
}

impl Lock for MariaDbLock {
    async fn lock(&mut self) -> Result<(), String> {
        let arguments = (self.name.as_str(), PATIENCE_SECONDS);
        granted(self.connection.exec_first(&self.lock, arguments).await)
    }

    async fn unlock(&mut self) -> Result<(), String> {
        granted(self.connection.exec_first(&self.unlock, (self.name.as_str(),)).await)
    }
}

/// 1 is yes; 0 and NULL are two kinds of no.
fn granted(answer: Result<Option<Option<i64>>, mysql_async::Error>) -> Result<(), String> {
    match answer.map_err(text)? {
        Some(Some(1)) => Ok(()),
        answer => Err(format!("the server answered {answer:?}")),
    }
}
