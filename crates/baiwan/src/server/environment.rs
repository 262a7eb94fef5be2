//! A builder from what the environment says.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use super::{Builder, Server};
use crate::Error;
use crate::settings::{KUBERNETES, Settings, TABLE, quoted};

impl Server {
    /// A builder with what the environment says: `HOST` and `PORT` (default `0.0.0.0` and `8080`) or a list of addresses in their place
    /// (`BIND`), `WORKERS`, `MAX_CONNECTIONS`, and the timeouts and other settings that `docs/settings.md` lists for the server. They are written as
    /// for `baiwan serve`, and what is wrong is refused in the same words. A variable that is empty counts as not set. Where
    /// `KUBERNETES_SERVICE_HOST` is set, the default of `SHUTDOWN_DELAY` is `5s`.
    ///
    /// `FD_TABLES=per-core` is obeyed for an app from a factory ([`Builder::serve_with`]) and refused at start for one that the
    /// cores clone: whoever sets it cannot know what the clones share, and to share too much corrupts other clients'
    /// connections; see [`FdTables::PerCore`](crate::FdTables::PerCore).
    ///
    /// # Errors
    /// [`Error::Variable`] names the first variable with a wrong value, the value, and what is allowed.
    pub fn from_env() -> Result<Builder, Error> {
        Self::from_env_prefixed("")
    }

    /// As [`from_env`](Self::from_env), with names that begin with `prefix`, and those only: `HOST`, `PORT` and `WORKERS` are
    /// often an app's own.
    ///
    /// # Errors
    /// [`Error::Variable`] names the first variable with a wrong value, prefix included, the value, and what is allowed.
    ///
    /// # Example
    /// ```
    /// // CHAT_PORT=0 CHAT_REQUEST_TIMEOUT=5s; PORT is not read.
    /// let builder = baiwan::Server::from_env_prefixed("CHAT_")?;
    /// # drop(builder);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn from_env_prefixed(prefix: &str) -> Result<Builder, Error> {
        Self::from_variables(prefix, |name| std::env::var_os(name))
    }

    /// As [`from_env_prefixed`](Self::from_env_prefixed), from variables that `variable` finds.
    #[doc(hidden)]
    pub fn from_variables(prefix: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Builder, Error> {
        let given = |name: &str| variable(&format!("{prefix}{name}")).filter(|value| !value.is_empty());
        let wrong = |name: &str, value: OsString, allowed: String| Error::Variable {
            name: format!("{prefix}{name}"),
            value: value.to_str().map_or_else(|| format!("{value:?}"), quoted),
            allowed,
        };
        let mut settings = Settings::default();
        for setting in TABLE {
            let name = setting.row.name;
            let Some(value) = given(name) else { continue };
            let text = value.to_str().ok_or("UTF-8 text".to_owned());
            text.and_then(|text| (setting.set)(&mut settings, text)).map_err(|allowed| wrong(name, value, allowed))?;
        }
        // It is Kubernetes' own variable, whatever the prefix.
        if variable(KUBERNETES).is_some_and(|value| !value.is_empty()) {
            settings.take_kubernetes_defaults(|name| given(name).is_some());
        }
        if let Some(([name, _], allowed)) = settings.conflicts(prefix).into_iter().next() {
            return Err(wrong(name, given(name).unwrap_or_default(), allowed));
        }
        let tables_by_environment = given("FD_TABLES").is_some();
        Ok(Builder { tables_by_environment, prefix: prefix.to_owned(), ..Self::from_settings(settings) })
    }

    /// A builder with these settings: for the ready service, which has more doors than the environment.
    #[doc(hidden)]
    pub fn from_settings(settings: Settings) -> Builder {
        Self::from_settings_on(settings, Vec::new())
    }

    /// As [`from_settings`](Self::from_settings), on these listening sockets instead of where the settings say, unless there are none.
    #[doc(hidden)]
    pub fn from_settings_on(settings: Settings, listeners: Vec<OwnedFd>) -> Builder {
        let addresses = if listeners.is_empty() { settings.binding.addresses() } else { Vec::new() };
        let access = settings.binding.access.clone();
        let builder = Builder { access, ..Builder::new(settings) };
        listeners.into_iter().fold(addresses.into_iter().fold(builder, Builder::bind), Builder::listener)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::listen::Source;

    fn from(prefix: &str, variables: &[(&str, &str)]) -> Result<Builder, Error> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Server::from_variables(prefix, find)
    }

    fn refused(prefix: &str, variables: &[(&str, &str)]) -> String {
        from(prefix, variables).unwrap_err().to_string()
    }

    #[test]
    fn the_environment_is_read_and_an_empty_variable_is_not_set() {
        let variables = [("HOST", "::1"), ("PORT", "0"), ("REQUEST_TIMEOUT", "5s"), ("WORKERS", "")];
        let builder = from("", &variables).unwrap();
        assert!(matches!(&builder.sources[..], [Source::Address(address)] if address == "[::1]:0"));
        assert_eq!(builder.settings.request_timeout, Some(Duration::from_secs(5)));
        assert_eq!(builder.settings.workers, None);
    }

    #[test]
    fn a_list_of_addresses_is_bound_instead_of_host_and_port() {
        let variables = [("BIND", "127.0.0.1:81, unix:/run/app.sock"), ("BIND_MODE", "0660"), ("HOST", "")];
        let builder = from("", &variables).unwrap();
        let addresses: Vec<_> = builder.sources.iter().map(|source| format!("{source:?}")).collect();
        assert_eq!(addresses, [r#"Address("127.0.0.1:81")"#, r#"Address("unix:/run/app.sock")"#]);
        assert_eq!(builder.access.mode, Some(0o660));
        assert_eq!(
            refused("CHAT_", &[("CHAT_BIND", "unix:@chat"), ("CHAT_PORT", "80"), ("PORT", "81")]),
            "CHAT_BIND is \"unix:@chat\"; allowed is this or CHAT_HOST and CHAT_PORT, and CHAT_PORT is set too"
        );
    }

    #[test]
    fn with_a_prefix_no_other_names_are_read() {
        let variables = [
            ("PORT", "many"),
            ("CHAT_PORT", "81"),
            ("WORKERS", "0"),
            ("CHAT_SHUTDOWN_DELAY", ""),
            ("HALF_CLOSE", "on"),
        ];
        let builder = from("CHAT_", &variables).unwrap();
        assert!(matches!(&builder.sources[..], [Source::Address(address)] if address == "0.0.0.0:81"));
        assert_eq!((builder.settings.workers, builder.settings.half_close), (None, false));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_prefix() {
        assert_eq!(
            refused("CHAT_", &[("CHAT_WORKERS", "+2")]),
            "CHAT_WORKERS is \"+2\"; allowed is a whole number from 1 to 1024"
        );
        assert_eq!(
            refused("CHAT_", &[("CHAT_SHUTDOWN_DELAY", "1m"), ("SHUTDOWN_TIMEOUT", "2m")]),
            "CHAT_SHUTDOWN_DELAY is \"1m\"; allowed is less than CHAT_SHUTDOWN_TIMEOUT, which is 25s"
        );
    }

    #[test]
    fn in_kubernetes_a_stop_is_delayed_unless_the_settings_say_otherwise() {
        let here = (KUBERNETES, "10.0.0.1");
        for (variables, seconds) in [
            (&[][..], 0),
            (&[(KUBERNETES, "")], 0),
            (&[here], 5),
            (&[here, ("CHAT_SHUTDOWN_DELAY", "off")], 0),
            (&[here, ("CHAT_SHUTDOWN_DELAY", "1s")], 1),
            (&[here, ("SHUTDOWN_DELAY", "1s")], 5),
            // The delay is a part of the whole stop, and must leave time for the rest.
            (&[here, ("CHAT_SHUTDOWN_TIMEOUT", "5s")], 0),
            (&[here, ("CHAT_SHUTDOWN_TIMEOUT", "6s")], 5),
        ] {
            let delay = from("CHAT_", variables).unwrap().settings.shutdown_delay;
            assert_eq!(delay, Duration::from_secs(seconds), "{variables:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;

        let not_text = |_: &str| Some(OsString::from_vec(vec![0xff]));
        let said = Server::from_variables("", not_text).unwrap_err().to_string();
        assert_eq!(said, "HOST is \"\\xFF\"; allowed is UTF-8 text");
    }
}
