//! What there is to know of one setting: how it is called, explained, read and shown.

use std::borrow::Cow;
use std::fmt::Display;

/// How many characters of a wrong value are repeated: enough to recognise it.
const SHOWN_MAX: usize = 200;

/// What Kubernetes sets in every container, and nobody else should.
pub const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";

/// What stands for a value that must not be shown.
pub const HIDDEN: &str = "(hidden)";

/// One setting of a `T`.
#[derive(Debug)]
pub struct Setting<T: 'static> {
    /// What does not depend on `T`.
    pub row: Row,
    /// Takes a value as it is written. The error says what is allowed, and never repeats the value.
    pub set: fn(&mut T, &str) -> Result<(), String>,
    /// The value in force, as it would be written.
    pub show: fn(&T) -> String,
}

/// What the reader of a help, a document or an error needs to know of a setting.
#[derive(Debug)]
pub struct Row {
    /// The environment variable, which is also the setting's name.
    pub name: &'static str,
    /// What the help calls the value.
    pub value: &'static str,
    /// For the reader of `--help` and of the documents: a clause without a full stop.
    pub help: &'static str,
    /// What holds when nobody sets it, in words, where the default is no value that could be given.
    pub default: Option<&'static str>,
    /// The value that holds in Kubernetes when nobody sets it, where that is another one.
    pub kubernetes_default: Option<&'static str>,
    /// How the value is written and shown.
    pub kind: Kind,
    /// Whether the portable event loop obeys it.
    pub portable: bool,
    /// Whether it may change while the server runs.
    pub reloadable: bool,
}

/// How a value is written in a file, and what of it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shown as it is.
    Plain,
    /// Shown as it is; in a file it may be an array.
    List,
    /// It may hold a password: of a wrong one only the scheme is shown.
    Url,
    /// Never shown.
    Secret,
}

impl Row {
    /// A row like most: its name, what the help calls the value, and the help.
    pub const fn new(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            value,
            help,
            default: None,
            kubernetes_default: None,
            kind: Kind::Plain,
            portable: true,
            reloadable: false,
        }
    }

    /// The same row of a setting that may change while the server runs.
    pub const fn reloadable(self) -> Self {
        Self { reloadable: true, ..self }
    }

    /// The flag without its dashes: the name in kebab case.
    pub fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }

    /// The key in a file: the name in snake case.
    pub fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// Whether a value may hold what only its owner may know.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Url | Kind::Secret)
    }

    /// The help as a whole: with where the default is another one, and where the setting has no effect.
    pub fn help(&self) -> Cow<'static, str> {
        let mut help = Cow::Borrowed(self.help);
        if let Some(default) = self.kubernetes_default {
            *help.to_mut() += &format!(". The default is `{default}` where `{KUBERNETES}` is set, as in Kubernetes");
        }
        if !self.portable {
            help += ". No effect with `EVENT_LOOP=portable`";
        }
        help
    }

    /// What may be shown of `text`, a value that may be wrong: in quotes, on one line, without secrets.
    pub fn shown(&self, text: &str) -> String {
        match self.kind {
            Kind::Plain | Kind::List => quoted(text),
            Kind::Url => quoted(&without_secrets(text)),
            Kind::Secret => HIDDEN.to_owned(),
        }
    }
}

/// For [`Setting::set`]: stores what was read, or hands on what is allowed.
pub fn store<T, E: Display>(field: &mut T, read: Result<T, E>) -> Result<(), String> {
    *field = read.map_err(|allowed| allowed.to_string())?;
    Ok(())
}

/// `text` in quotes on one line, and not all of a long one.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Of what should be a URL that may carry a password, the scheme if it has one, and nothing else: it may be something else altogether.
fn without_secrets(url: &str) -> Cow<'_, str> {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match url.split_once(':') {
        None if url.is_empty() => url.into(),
        Some(("sqlite", _)) => url.into(),
        Some((scheme, rest)) if is_scheme(scheme) && rest.starts_with("//") => format!("{scheme}:…").into(),
        _ => "…".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let of = |kind| Row { kind, ..Row::new("A_NAME", "VALUE", "what it is") };
        let url = of(Kind::Url);
        assert_eq!(url.shown("mysql://ada:secret@host/db"), "\"mysql:…\"");
        for secret in ["secret", "secret@host:5432/db", "host=db password=ab:cd", "PASSWORD=ab\nURL=postgres://host/db"]
        {
            assert_eq!(url.shown(secret), "\"…\"", "{secret:?}");
        }
        assert_eq!(url.shown("sqlite:"), "\"sqlite:\"");
        assert_eq!(url.shown(""), "\"\"");
        assert_eq!(of(Kind::Secret).shown("secret"), "(hidden)");
        let plain = of(Kind::Plain);
        assert_eq!(plain.shown("a\nb"), "\"a\\nb\"");
        assert_eq!(plain.shown(&"ü".repeat(SHOWN_MAX + 1)), format!("\"{}\"…", "ü".repeat(SHOWN_MAX)));
        assert_eq!(plain.shown(&"ü".repeat(SHOWN_MAX)), format!("\"{}\"", "ü".repeat(SHOWN_MAX)));
    }

    #[test]
    fn flag_and_key_are_the_name_in_other_letters() {
        let row = Row::new("HEADER_TIMEOUT", "DURATION", "what it is");
        assert_eq!((&*row.flag(), &*row.key()), ("header-timeout", "header_timeout"));
    }
}
