//! The endpoints of a client, which can change while it runs.

use super::Client;
use crate::error::Error;
use crate::net::endpoint::Endpoint;

/// The endpoints that a client knows, as [`Client::endpoints`] gives them. What is
/// changed here is changed for all clones of the client.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// client.endpoints().add("http://10.0.0.4:2379")?;
/// println!("the cluster: {:?}", client.endpoints().sync().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Endpoints<'a> {
    client: &'a Client,
}

impl Client {
    /// The endpoints, to look at and to change.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints<'_> {
        Endpoints { client: self }
    }
}

impl Endpoints<'_> {
    /// Their addresses.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let names = self.client.channel().endpoints();
        names.iter().map(ToString::to_string).collect()
    }

    /// Adds one, and begins to connect to it. One that is there stays as it is.
    ///
    /// # Errors
    ///
    /// It does not parse.
    pub fn add(&self, endpoint: &str) -> Result<(), Error> {
        self.client.channel().add_endpoint(Endpoint::parse(endpoint)?);
        Ok(())
    }

    /// Removes one; whether it was there, in whatever spelling. Calls that wait for
    /// its answers have ten seconds more; streams move elsewhere within these.
    ///
    /// # Errors
    ///
    /// It does not parse, or is the last one.
    pub fn remove(&self, endpoint: &str) -> Result<bool, Error> {
        self.client.channel().remove_endpoint(&Endpoint::parse(endpoint)?)
    }

    /// Has these and no others from now on. Those that stay keep their connections.
    ///
    /// # Errors
    ///
    /// One does not parse, or there is none; then nothing has changed.
    pub fn set<E: AsRef<str>>(&self, endpoints: impl IntoIterator<Item = E>) -> Result<(), Error> {
        let endpoints = endpoints.into_iter().map(|text| Endpoint::parse(text.as_ref()));
        self.client.channel().set_endpoints(endpoints.collect::<Result<_, _>>()?)
    }

    /// Asks the cluster for its members and has their client addresses from then
    /// on. Learners are left out, and so are members that tell no address; where all endpoints
    /// are encrypted, addresses that are not are left out too. The addresses that it has now.
    ///
    /// # Errors
    ///
    /// Nobody answered, or no member has an address that this client may use; or the
    /// list is that of another cluster than the last one that was asked for
    /// ([`EtcdError::ClusterIdMismatch`](crate::EtcdError::ClusterIdMismatch)). Nothing has
    /// changed then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has changed nothing.
    pub async fn sync(&self) -> Result<Vec<String>, Error> {
        self.client.channel().sync().await?;
        Ok(self.list())
    }
}
