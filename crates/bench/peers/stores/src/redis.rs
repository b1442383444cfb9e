//! Redis: one server, the lock that its documentation gives for that. Who finds the lock taken
//! tries again after a random delay, for there is no queue.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Script};
use tenure_bench_worker::{Lock, Locker};
use tokio::time::sleep;

use crate::{endpoint, text};

/// After which a lock is open again that its holder did not release.
const TTL: Duration = Duration::from_secs(30);
/// The longest delay before the next try. The recipe asks for a random one; this is the default of
/// redlock-rb, its first implementation and by the same author.
const RETRY_MAX: Duration = Duration::from_millis(200);
/// Deletes the key if its value is still that of who asks.
const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) \
                       else return 0 end";

#[derive(Clone)]
pub(crate) struct Redis {
    connection: MultiplexedConnection,
}

pub(crate) struct RedisLock {
    connection: MultiplexedConnection,
    name: String,
    release: Script,
    /// Of this lock's holder, and of none before.
    value: String,
    taken: u64,
}

impl Locker for Redis {
    type Lock = RedisLock;

    async fn connect(endpoints: &[String]) -> Result<Redis, String> {
        let info = endpoint(endpoints)?.into_connection_info().map_err(text)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = Client::open(info).map_err(text)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Redis {
            connection: connection.map_err(text)?,
        })
    }

    async fn mutex(&self, name: &str) -> Result<RedisLock, String> {
        let mut connection = self.connection.clone();
        let release = Script::new(RELEASE);
        release.load_async(&mut connection).await.map_err(text)?;
        Ok(RedisLock {
            connection,
            name: name.to_owned(),
            release,
            value: String::new(),
            taken: 0,
        })
    }
}

impl Lock for RedisLock {
    async fn lock(&mut self) -> Result<(), String> {
        self.taken += 1;
        self.value = format!("{:016x}", random(self.taken));
        let mut set = redis::cmd("SET");
        set.arg(&self.name).arg(&self.value).arg("NX").arg("PX").arg(TTL.as_millis() as u64);
        while set.query_async::<Option<String>>(&mut self.connection).await.map_err(text)?.is_none() {
            sleep(retry_delay(random(self.taken))).await;
        }
        Ok(())
    }

    async fn unlock(&mut self) -> Result<(), String> {
        let mut invocation = self.release.key(&self.name);
        let deleted: u64 =
            invocation.arg(&self.value).invoke_async(&mut self.connection).await.map_err(text)?;
        match deleted {
            1 => Ok(()),
            _ => Err("it was not locked by this one any more".to_owned()),
        }
    }
}

/// Each `RandomState` has keys of its own.
fn random(number: u64) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(number);
    hasher.finish()
}

fn retry_delay(random: u64) -> Duration {
    Duration::from_micros(random % (RETRY_MAX.as_micros() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_another_one_each_time_and_within_its_bound() {
        let delays: Vec<Duration> = (0..1000).map(|n| retry_delay(random(n))).collect();
        assert!(delays.iter().all(|delay| *delay <= RETRY_MAX));
        assert!(delays.iter().any(|delay| *delay < RETRY_MAX / 8));
        assert!(delays.iter().any(|delay| *delay > RETRY_MAX / 8 * 7));
    }
}
