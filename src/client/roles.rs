//! Roles: which keys whoever has one may read and write.

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::authpb::Permission;
pub use crate::pb::authpb::permission::Type as PermissionType;
use crate::pb::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse,
};
use crate::types::KeyRange;
use crate::wire::Method;
use crate::wire::method::auth as method;

/// The roles of the cluster, as [`Client::roles`] gives them. Where authentication is enabled
/// they are for the role `root`, which may do everything itself; a user may see its own.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use tenure::KeyRange;
/// use tenure::client::PermissionType;
///
/// client.roles().add("jobs").await?;
/// client.roles().grant("jobs", PermissionType::Readwrite, KeyRange::prefix("jobs/")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Roles<'a> {
    client: &'a Client,
}

/// A role to add, as [`Roles::add`] makes it.
pub type RoleAdd<'a> = Unary<'a, AuthRoleAddRequest, AuthRoleAddResponse>;
/// A question to await, as [`Roles::get`] makes it.
pub type RoleGet<'a> = Unary<'a, AuthRoleGetRequest, AuthRoleGetResponse>;
/// A list to await, as [`Roles::list`] makes it.
pub type RoleList<'a> = Unary<'a, AuthRoleListRequest, AuthRoleListResponse>;
/// A role to delete, as [`Roles::delete`] makes it.
pub type RoleDelete<'a> = Unary<'a, AuthRoleDeleteRequest, AuthRoleDeleteResponse>;
/// A permission to grant, as [`Roles::grant`] makes it.
pub type RoleGrant<'a> = Unary<'a, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse>;
/// A permission to revoke, as [`Roles::revoke`] makes it.
pub type RoleRevoke<'a> = Unary<'a, AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse>;

impl Client {
    /// The roles of the cluster, to look at and to change.
    #[must_use]
    pub fn roles(&self) -> Roles<'_> {
        Roles { client: self }
    }
}

impl<'a> Roles<'a> {
    /// Adds a role without permissions.
    ///
    /// # Errors
    ///
    /// [`RoleExists`](crate::EtcdError::RoleExists), [`RoleEmpty`](crate::EtcdError::RoleEmpty).
    pub fn add(&self, name: impl Into<String>) -> RoleAdd<'a> {
        self.call(&method::ROLE_ADD, AuthRoleAddRequest { name: name.into() })
    }

    /// The permissions of a role.
    ///
    /// # Errors
    ///
    /// [`RoleNotFound`](crate::EtcdError::RoleNotFound).
    pub fn get(&self, name: impl Into<String>) -> RoleGet<'a> {
        self.call(&method::ROLE_GET, AuthRoleGetRequest { role: name.into() })
    }

    /// The names of all roles.
    pub fn list(&self) -> RoleList<'a> {
        self.call(&method::ROLE_LIST, AuthRoleListRequest {})
    }

    /// Deletes a role, which all users lose.
    ///
    /// # Errors
    ///
    /// [`RoleNotFound`](crate::EtcdError::RoleNotFound); and
    /// [`InvalidAuthManagement`](crate::EtcdError::InvalidAuthManagement) for `root` while
    /// authentication is enabled.
    pub fn delete(&self, name: impl Into<String>) -> RoleDelete<'a> {
        self.call(&method::ROLE_DELETE, AuthRoleDeleteRequest { role: name.into() })
    }

    /// Lets whoever has the role read or write a key, or a [`KeyRange`] of keys. What was granted
    /// for the very same keys before is replaced.
    ///
    /// # Errors
    ///
    /// [`RoleNotFound`](crate::EtcdError::RoleNotFound).
    pub fn grant(
        &self,
        role: impl Into<String>,
        permission: PermissionType,
        keys: impl Into<KeyRange>,
    ) -> RoleGrant<'a> {
        let keys = keys.into();
        let request = AuthRoleGrantPermissionRequest {
            name: role.into(),
            perm: Some(Permission {
                perm_type: permission.into(),
                key: keys.key,
                range_end: keys.range_end,
            }),
        };
        self.call(&method::ROLE_GRANT_PERMISSION, request)
    }

    /// Takes the permission for exactly these keys back.
    ///
    /// # Errors
    ///
    /// [`RoleNotFound`](crate::EtcdError::RoleNotFound); and
    /// [`PermissionNotGranted`](crate::EtcdError::PermissionNotGranted) where none was granted
    /// for these keys, more or less of them included.
    pub fn revoke(&self, role: impl Into<String>, keys: impl Into<KeyRange>) -> RoleRevoke<'a> {
        let keys = keys.into();
        let request = AuthRoleRevokePermissionRequest {
            role: role.into(),
            key: keys.key,
            range_end: keys.range_end,
        };
        self.call(&method::ROLE_REVOKE_PERMISSION, request)
    }

    fn call<M, R>(&self, method: &'static Method, request: M) -> Unary<'a, M, R> {
        Unary::new(self.client, method, request, CallOptions::default())
    }
}
