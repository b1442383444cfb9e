//! The users that the cluster knows. Passwords are in the requests and nowhere else: `Debug`
//! hides them, and no error repeats them.

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::authpb::UserAddOptions;
use crate::pb::etcdserverpb::{
    AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse,
};
use crate::wire::Method;
use crate::wire::method::auth as method;

/// The users of the cluster, as [`Client::users`] gives them. Where authentication is enabled
/// they are for the role `root`; a user may see itself.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// client.users().add("alice", "a password").await?;
/// client.users().grant_role("alice", "jobs").await?;
/// println!("{:?}", client.users().get("alice").await?.roles);
/// # Ok(())
/// # }
/// ```
///
/// Each change makes the tokens of all clients old; those of this crate fetch another one.
#[derive(Clone, Copy, Debug)]
pub struct Users<'a> {
    client: &'a Client,
}

/// A user to add, as [`Users::add`] makes it.
pub type UserAdd<'a> = Unary<'a, AuthUserAddRequest, AuthUserAddResponse>;
/// A question to await, as [`Users::get`] makes it.
pub type UserGet<'a> = Unary<'a, AuthUserGetRequest, AuthUserGetResponse>;
/// A list to await, as [`Users::list`] makes it.
pub type UserList<'a> = Unary<'a, AuthUserListRequest, AuthUserListResponse>;
/// A user to delete, as [`Users::delete`] makes it.
pub type UserDelete<'a> = Unary<'a, AuthUserDeleteRequest, AuthUserDeleteResponse>;
/// A change of a password to await, as [`Users::change_password`] makes it.
pub type UserChangePassword<'a> = Unary<'a, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse>;
/// A role to grant, as [`Users::grant_role`] makes it.
pub type UserGrantRole<'a> = Unary<'a, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse>;
/// A role to revoke, as [`Users::revoke_role`] makes it.
pub type UserRevokeRole<'a> = Unary<'a, AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse>;

impl Client {
    /// The users of the cluster, to look at and to change.
    #[must_use]
    pub fn users(&self) -> Users<'_> {
        Users { client: self }
    }
}

impl<'a> Users<'a> {
    /// Adds a user, who logs in with this password. It travels as it is: use TLS where others can
    /// listen.
    ///
    /// # Errors
    ///
    /// [`UserExists`](crate::EtcdError::UserExists), [`UserEmpty`](crate::EtcdError::UserEmpty).
    pub fn add(&self, name: impl Into<String>, password: impl Into<String>) -> UserAdd<'a> {
        self.added(name.into(), password.into(), false)
    }

    /// Adds a user who cannot log in with a password, but is known by the common name of a
    /// certificate. Since etcd 3.4.
    ///
    /// # Errors
    ///
    /// As [`Users::add`].
    pub fn add_without_password(&self, name: impl Into<String>) -> UserAdd<'a> {
        self.added(name.into(), String::new(), true)
    }

    /// The roles of a user.
    ///
    /// # Errors
    ///
    /// [`UserNotFound`](crate::EtcdError::UserNotFound).
    pub fn get(&self, name: impl Into<String>) -> UserGet<'a> {
        self.call(&method::USER_GET, AuthUserGetRequest { name: name.into() })
    }

    /// The names of all users.
    pub fn list(&self) -> UserList<'a> {
        self.call(&method::USER_LIST, AuthUserListRequest {})
    }

    /// Deletes a user.
    ///
    /// # Errors
    ///
    /// [`UserNotFound`](crate::EtcdError::UserNotFound); and
    /// [`InvalidAuthManagement`](crate::EtcdError::InvalidAuthManagement) for `root` while
    /// authentication is enabled.
    pub fn delete(&self, name: impl Into<String>) -> UserDelete<'a> {
        self.call(&method::USER_DELETE, AuthUserDeleteRequest { name: name.into() })
    }

    /// Gives a user another password.
    ///
    /// # Errors
    ///
    /// [`UserNotFound`](crate::EtcdError::UserNotFound).
    pub fn change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> UserChangePassword<'a> {
        let request = AuthUserChangePasswordRequest {
            name: name.into(),
            password: password.into(),
            hashed_password: String::new(),
        };
        self.call(&method::USER_CHANGE_PASSWORD, request)
    }

    /// Gives a user a role. One that it has stays.
    ///
    /// # Errors
    ///
    /// [`UserNotFound`](crate::EtcdError::UserNotFound),
    /// [`RoleNotFound`](crate::EtcdError::RoleNotFound).
    pub fn grant_role(&self, name: impl Into<String>, role: impl Into<String>) -> UserGrantRole<'a> {
        let request = AuthUserGrantRoleRequest {
            user: name.into(),
            role: role.into(),
        };
        self.call(&method::USER_GRANT_ROLE, request)
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    ///
    /// [`UserNotFound`](crate::EtcdError::UserNotFound),
    /// [`RoleNotGranted`](crate::EtcdError::RoleNotGranted); and
    /// [`InvalidAuthManagement`](crate::EtcdError::InvalidAuthManagement) for `root` of `root`
    /// while authentication is enabled.
    pub fn revoke_role(&self, name: impl Into<String>, role: impl Into<String>) -> UserRevokeRole<'a> {
        let request = AuthUserRevokeRoleRequest {
            name: name.into(),
            role: role.into(),
        };
        self.call(&method::USER_REVOKE_ROLE, request)
    }

    fn added(&self, name: String, password: String, no_password: bool) -> UserAdd<'a> {
        let request = AuthUserAddRequest {
            name,
            password,
            options: Some(UserAddOptions { no_password }),
            hashed_password: String::new(),
        };
        self.call(&method::USER_ADD, request)
    }

    fn call<M, R>(&self, method: &'static Method, request: M) -> Unary<'a, M, R> {
        Unary::new(self.client, method, request, CallOptions::default())
    }
}
