//! Whether the cluster asks who its clients are. Who there is, is in `users`; what they may
//! do, in `roles`.

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthStatusRequest,
    AuthStatusResponse,
};
use crate::wire::method::auth as method;

/// The authentication of the cluster, as [`Client::authentication`] gives it.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// client.users().add("root", "a password").await?;
/// client.roles().add("root").await?;
/// client.users().grant_role("root", "root").await?;
/// client.authentication().enable().await?;
/// // From now on a client needs `Config::auth`.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Authentication<'a> {
    client: &'a Client,
}

/// A change to await, as [`Authentication::enable`] makes it.
pub type AuthEnable<'a> = Unary<'a, AuthEnableRequest, AuthEnableResponse>;
/// A change to await, as [`Authentication::disable`] makes it.
pub type AuthDisable<'a> = Unary<'a, AuthDisableRequest, AuthDisableResponse>;
/// A question to await, as [`Authentication::status`] makes it.
pub type AuthStatus<'a> = Unary<'a, AuthStatusRequest, AuthStatusResponse>;

impl Client {
    /// Whether the cluster asks who its clients are, to see and to change.
    #[must_use]
    pub fn authentication(&self) -> Authentication<'_> {
        Authentication { client: self }
    }
}

impl<'a> Authentication<'a> {
    /// Has the cluster ask every client who it is from now on, also those that are connected.
    ///
    /// # Errors
    ///
    /// [`RootUserNotFound`](crate::EtcdError::RootUserNotFound) and
    /// [`RootRoleNotFound`](crate::EtcdError::RootRoleNotFound): there has to be a user `root`
    /// with the role `root`.
    pub fn enable(&self) -> AuthEnable<'a> {
        let options = CallOptions::default();
        Unary::new(self.client, &method::AUTH_ENABLE, AuthEnableRequest {}, options)
    }

    /// Lets everybody do everything again. Users and roles stay. With the role `root`.
    pub fn disable(&self) -> AuthDisable<'a> {
        let options = CallOptions::default();
        Unary::new(self.client, &method::AUTH_DISABLE, AuthDisableRequest {}, options)
    }

    /// Whether it is enabled, and the revision of users and roles. Since etcd 3.5. With the role
    /// `root`, where it is enabled.
    pub fn status(&self) -> AuthStatus<'a> {
        let options = CallOptions::default();
        Unary::new(self.client, &method::AUTH_STATUS, AuthStatusRequest {}, options)
    }
}
