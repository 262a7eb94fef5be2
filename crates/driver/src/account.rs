//! Users and groups of this machine by their names, as the system's databases know them (getpwnam(3), getgrnam(3)).

use std::io;

use nix::unistd::{Group, User};

/// The number of the user with this name; None if there is none.
///
/// # Errors
/// When a database cannot be read.
///
/// # Example
/// ```
/// assert_eq!(baiwan_driver::user_id("root")?, Some(0));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// The number of the group with this name; None if there is none.
///
/// # Errors
/// When a database cannot be read.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}
