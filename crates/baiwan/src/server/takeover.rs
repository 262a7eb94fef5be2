//! How a new process takes over the listening sockets of the one that runs, so that no connection is lost between them.
//!
//! Both are started with the same path of a Unix socket, the *door*. The first process listens there; each later one connects.
//!
//! ```text
//!   new process (`heir`)                        process that runs (`keeper`)
//!
//!   connects to the door ─────────────────────▶ looks whose process it is: of the same user, or of root
//!   hello ────────────────────────────────────▶ refuses another version, and a second attempt while one is under way
//!        ◀──────────────────────────────────── sockets: what listens (servers, admin side, door), and the descriptors
//!   binds what is missing, starts; its cores
//!   are up, and accept nothing yet
//!   ready ────────────────────────────────────▶
//!        ◀──────────────────────────────────── released: it goes back no more
//!   accepts, also at the door                   accepts no more, answers what it has accepted, ends
//! ```
//!
//! Until `released` was sent, whatever happens to the new process leaves the old one as it was: an end of the stream, a message that cannot
//! be read, more than [`ATTEMPT_MAX`] without `ready`. Either side may say `refused` and why, instead of what the other waits for. So does an
//! old process that is told to stop. One that ends without a word was killed: then the new one serves, and the files of its Unix sockets are the
//! new one's.
//!
//! A listening socket is one thing with one backlog, however many processes hold it. So the two need not agree on who accepts what: a
//! connection that is queued while they change is accepted by whoever comes first. What would lose connections is to close one socket of a
//! set (`SO_REUSEPORT`), because its backlog goes with it: so every socket that is handed over is served, by fewer cores (`claim`: one core
//! then has several) or by more (cores then share one). A new socket in the set would have connections before the new process is sure to
//! live, so none is added. The door is handed over like the others, so that its path leads to whoever serves, at every moment; and so are the
//! files of Unix sockets, which the last process removes. A Unix socket to whose path another file has come is not handed over: the path is
//! somebody else's, and the new process finds there what it would find at any start.
//!
//! A message is text: a line with the version and the kind, a line for each further word, and an empty line (`message`). Roles are in the
//! order of the descriptors; addresses are not sent, because a socket knows its own.
//!
//! It is *not* here that the old process answers and ends what it has: that is its stop, from [`Phase::Draining`](crate::Phase::Draining) on.
//!
//! The invariant: at every moment some process listens on every socket of the set, and will accept from it.

mod claim;
mod heir;
mod inheritance;
mod keeper;
mod message;

use std::time::Duration;

pub(super) use self::heir::is_served;
pub(super) use self::inheritance::{Inheritance, listen};
pub(super) use self::keeper::Keeper;

/// A new process that is not ready after this time is given up.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);
/// A new process waits this long to hear that the old one has released what it has.
const RELEASE_MAX: Duration = Duration::from_secs(10);
