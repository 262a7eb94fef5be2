//! The choice of what moves the bytes.

use std::str::FromStr;

/// How a core waits for its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum EventLoop {
    /// The best that the system has: [`Epoll`](Self::Epoll) on Linux, [`Portable`](Self::Portable) elsewhere.
    #[default]
    Auto,
    /// Baiwan's engine on Linux's epoll.
    Epoll,
    /// hyper on plain Tokio: the same service anywhere, for development. It holds far fewer connections.
    Portable,
}

impl EventLoop {
    /// What `Auto` stands for here.
    pub(crate) fn resolve(self) -> Self {
        match self {
            Self::Auto if cfg!(target_os = "linux") => Self::Epoll,
            Self::Auto => Self::Portable,
            chosen => chosen,
        }
    }

    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::Portable => "portable",
        }
    }
}

impl FromStr for EventLoop {
    type Err = &'static str;

    /// The error says what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Auto, Self::Epoll, Self::Portable];
        all.into_iter().find(|choice| choice.name() == text).ok_or("auto, epoll or portable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_loops_are_found_by_name() {
        assert_eq!("portable".parse(), Ok(EventLoop::Portable));
        assert!("kqueue".parse::<EventLoop>().is_err());
    }
}
