//! `Debug` for the messages that carry a password or a token, which it hides.

use std::fmt;

use super::authpb::User;
use super::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthenticateRequest, AuthenticateResponse,
};

/// Stands for a secret: its length would tell something, so that is hidden too.
const HIDDEN: &str = "***";

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .field("roles", &self.roles)
            .field("options", &self.options)
            .finish()
    }
}

impl fmt::Debug for AuthUserAddRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUserAddRequest")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .field("options", &self.options)
            .field("hashed_password", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for AuthUserChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUserChangePasswordRequest")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .field("hashed_password", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest")
            .field("name", &self.name)
            .field("password", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for AuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateResponse")
            .field("header", &self.header)
            .field("token", &HIDDEN)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let secret = || "hunter2".to_owned();
        let shown = [
            format!(
                "{:?}",
                User {
                    password: secret().into(),
                    ..User::default()
                }
            ),
            format!(
                "{:?}",
                AuthUserAddRequest {
                    password: secret(),
                    hashed_password: secret(),
                    ..AuthUserAddRequest::default()
                }
            ),
            format!(
                "{:?}",
                AuthUserChangePasswordRequest {
                    password: secret(),
                    hashed_password: secret(),
                    ..AuthUserChangePasswordRequest::default()
                }
            ),
            format!(
                "{:?}",
                AuthenticateRequest {
                    password: secret(),
                    ..AuthenticateRequest::default()
                }
            ),
            format!(
                "{:?}",
                AuthenticateResponse {
                    token: secret(),
                    ..AuthenticateResponse::default()
                }
            ),
        ];
        for text in shown {
            assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
        }
    }
}
