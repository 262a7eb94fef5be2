//! Who may connect to the Unix sockets that a server binds: what its program or its environment says, and whom the machine knows by that.

use std::io;

use baiwan_driver::{FileAccess, ListenOptions, group_id, user_id};

use super::Builder;
use crate::Error;
use crate::settings::{MODE_ALLOWED, SocketAccess, can_connect, parse_account, quoted, shown_mode};

impl Builder {
    /// The permissions of the Unix sockets that are [bound](Self::bind) at a path: on Linux, whoever may write may connect. Default: what the
    /// umask leaves. Nobody can connect before the socket has them.
    ///
    /// The folders above it must let those users through (`x`), too. One that lets none write is an error at start.
    ///
    /// # Example
    /// A proxy under another user, in the group `www-data`:
    /// ```no_run
    /// # fn example() -> Result<(), baiwan::Error> {
    /// let server = baiwan::Server::builder()
    ///     .bind("unix:/run/app/http.sock")
    ///     .bind_mode(0o660)
    ///     .bind_group("www-data")
    ///     .trusted_proxies("unix".parse().expect("it is a list of proxies"));
    /// server.run(axum::Router::new())
    /// # }
    /// ```
    pub fn bind_mode(mut self, mode: u32) -> Self {
        self.access.mode = Some(mode);
        self
    }

    /// Who owns the Unix sockets that are [bound](Self::bind) at a path: a user's name or number. Default: the user of the process. Another
    /// one needs root, or `CAP_CHOWN`. One that the machine does not know is an error at start.
    pub fn bind_owner(mut self, user: impl Into<String>) -> Self {
        self.access.owner = Some(user.into());
        self
    }

    /// The group of the Unix sockets that are [bound](Self::bind) at a path: its name or number. Default: the group of the process, or of
    /// the folder where that has the bit `setgid`. It must be one of the groups of the process, unless that is root. One that the machine
    /// does not know is an error at start.
    pub fn bind_group(mut self, group: impl Into<String>) -> Self {
        self.access.group = Some(group.into());
        self
    }

    /// How the addresses are bound, as far as that is the same for all.
    pub(super) fn listen_options(&self) -> Result<ListenOptions, Error> {
        let file = resolve(&self.access, &self.prefix)?;
        Ok(ListenOptions { reuse_port: self.reuse_port, ipv6_only: false, file })
    }
}

fn resolve(access: &SocketAccess, prefix: &str) -> Result<FileAccess, Error> {
    let wrong = |name: &str, value: String, allowed: String| Error::Variable {
        name: format!("{prefix}{name}"),
        value,
        allowed,
    };
    if let Some(mode) = access.mode.filter(|mode| !can_connect(*mode)) {
        return Err(wrong("BIND_MODE", quoted(&shown_mode(mode)), MODE_ALLOWED.to_owned()));
    }
    let id = |name: &str, what: &str, account: &Option<String>, find: fn(&str) -> io::Result<Option<u32>>| {
        let Some(account) = account else { return Ok(None) };
        let wrong = |allowed: String| wrong(name, quoted(account), allowed);
        parse_account(account).map_err(|allowed| wrong(allowed.to_owned()))?;
        if let Ok(number) = account.parse() {
            return Ok(Some(number));
        }
        match find(account) {
            Ok(Some(number)) => Ok(Some(number)),
            Ok(None) => Err(wrong(format!("a {what} that this machine knows, or a number"))),
            Err(error) => Err(wrong(format!(
                "a {what} that this machine knows, or a number; whom it knows cannot be read: {error}"
            ))),
        }
    };
    Ok(FileAccess {
        mode: access.mode,
        owner: id("BIND_OWNER", "user", &access.owner, user_id)?,
        group: id("BIND_GROUP", "group", &access.group, group_id)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;

    #[test]
    fn a_user_or_group_is_known_or_refused_in_words() {
        let said = |builder: Builder| builder.listen_options().unwrap_err().to_string();
        let builder = || Server::builder().bind("unix:/none");
        let file = builder().bind_owner("root").bind_group("12").bind_mode(0o600).listen_options().unwrap().file;
        assert_eq!(file, FileAccess { mode: Some(0o600), owner: Some(0), group: Some(12) });
        assert_eq!(
            said(builder().bind_owner("no-such-user")),
            "BIND_OWNER is \"no-such-user\"; allowed is a user that this machine knows, or a number"
        );
        assert!(said(builder().bind_group("no-such-group")).contains("a group that this machine knows"));
        assert!(said(builder().bind_group("")).contains("a name such as www-data"));
        for mode in [0o1777, 0o444, 0] {
            assert!(said(builder().bind_mode(mode)).starts_with(&format!("BIND_MODE is \"{mode:04o}\"; ")));
        }
    }
}
