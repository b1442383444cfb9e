//! PostgreSQL: an advisory lock of a session, by statements that are prepared once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use tenure_bench_worker::{Lock, Locker};
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::{endpoint, text};

#[derive(Clone)]
pub(crate) struct Postgres {
    client: Rc<Client>,
}

pub(crate) struct PostgresLock {
    client: Rc<Client>,
    lock: Statement,
    unlock: Statement,
    /// Such a lock has a number for a name.
    key: i64,
}

impl Locker for Postgres {
    type Lock = PostgresLock;

    async fn connect(endpoints: &[String]) -> Result<Postgres, String> {
        let (host, port) = endpoint(endpoints)?;
        let mut config = Config::new();
        config.host(host).port(port).user("bench").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.map_err(text)?;
        tokio::spawn(connection);
        Ok(Postgres {
            client: Rc::new(client),
        })
    }

    async fn mutex(&self, name: &str) -> Result<PostgresLock, String> {
        let prepare = async |statement| self.client.prepare(statement).await.map_err(text);
        Ok(PostgresLock {
            client: self.client.clone(),
            lock: prepare("SELECT pg_advisory_lock($1)").await?,
            unlock: prepare("SELECT pg_advisory_unlock($1)").await?,
            key: key_of(name),
        })
    }
}

impl Lock for PostgresLock {
    async fn lock(&mut self) -> Result<(), String> {
        self.client.query_one(&self.lock, &[&self.key]).await.map(drop).map_err(text)
    }

    async fn unlock(&mut self) -> Result<(), String> {
        let row = self.client.query_one(&self.unlock, &[&self.key]).await.map_err(text)?;
        match row.get(0) {
            true => Ok(()),
            false => Err("it was not locked".to_owned()),
        }
    }
}

/// The same in every process of this program.
fn key_of(name: &str) -> i64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish().cast_signed()
}
