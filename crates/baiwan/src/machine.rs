//! What the machine allows a server: the laws that its start obeys, for those who want to know before. The ready service's `doctor` and
//! `check-config` ask them; it is not part of the public interface.
//!
//! Everything is read below a root, which is `/`, tests apart. Nothing here changes anything.

#[cfg(feature = "admin")]
pub use crate::admin::ADMIN_FILES;
pub use crate::backlog::{BACKLOG_MAX, backlog_wanted};
pub use crate::capacity::{BYTES_PER_CONNECTION, CONNECTIONS_DEFAULT, bytes_of_server, decide, undisturbed};
pub use crate::cgroups::{Group, Version, groups};
pub use crate::files::{Files, Sides};
pub use crate::memory::{LimitedGroups, MemoryLimit, Usage, limit_for, usable};
pub use baiwan_limits::MEMORY_SHORT_PERCENT;
