//! Who the client says it is: a name and a password, or a token.

use std::fmt;
use std::sync::Arc;

/// How the client proves who it is, where etcd has authentication enabled.
///
/// Neither `Debug` nor any error shows a password or a token. Both travel as they
/// are: use TLS where others can listen. A password is kept in memory for as long as the
/// client lives, to ask for the next token, and is not overwritten when it is dropped: by
/// then the buffers of requests, HTTP/2 and TLS have had copies that nobody can reach.
///
/// ```
/// use tenure::{Auth, Config};
///
/// let config = Config::new().auth(Auth::password("root", "a password"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct Auth(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Password { name: Arc<str>, password: Arc<str> },
    Token(Arc<str>),
}

impl Auth {
    /// By name and password. The client fetches a token with them when it connects,
    /// and another one whenever the server does not take it any more: one question to
    /// the server, however many calls and streams run into it. Those go on with the new
    /// token.
    ///
    /// Where the server has authentication disabled, calls go without a token.
    pub fn password(name: impl Into<String>, password: impl Into<String>) -> Auth {
        Auth(Kind::Password {
            name: name.into().into(),
            password: password.into().into(),
        })
    }

    /// By a token that the caller has, such as a JWT that somebody else signed. It is
    /// never renewed: a call with one that has expired fails with
    /// [`EtcdError::InvalidAuthToken`](crate::EtcdError::InvalidAuthToken).
    pub fn token(token: impl Into<String>) -> Auth {
        Auth(Kind::Token(token.into().into()))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Password { name, .. } => {
                f.debug_struct("Password").field("name", name).finish_non_exhaustive()
            }
            Kind::Token(_) => f.write_str("Token"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn neither_a_password_nor_a_token_is_shown() {
        for auth in [Auth::password("alice", "hunter2"), Auth::token("hunter2")] {
            let shown = format!("{auth:?} {auth:#?} {:?}", Config::new().auth(auth.clone()));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(format!("{:?}", Auth::password("alice", "hunter2")).contains("alice"));
    }
}
