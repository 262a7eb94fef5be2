//! What the servers that are measured share: what they answer (`answers`), the axum app of two of them (`app`), the service of two
//! that have no router (`bare`), the answer of the two raw loops (`fixed`), and how a server tells the bench where it listens (`listening`).
//!
//! Nothing here knows which server runs it. Allocator, profile and dependencies are the same for all, because all are
//! binaries of this package.

pub mod answers;
mod app;
mod bare;
pub mod fixed;
mod listening;
mod version;

pub use app::app;
pub use bare::bare;
pub use listening::{BACKLOG, announce, listener, say, widen};
pub use version::version_asked;
