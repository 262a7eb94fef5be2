//! Where the database goes: whether there is room, and whether it may be written.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::report::Check;
use super::source::{Source, Unknown};
use crate::store::Location;

const NAME: &str = "database";
/// For the write-ahead log, which may grow to 64 MiB and is copied into the file, and for what is stored on the first days.
const BYTES_WANTED: u64 = 256 << 20;

pub(super) fn check(source: &Source<'_>, database: &Location) -> Check {
    match database {
        Location::Postgres(url) => {
            Check::new(NAME, format!("{url}, which was not asked"), "a server that can be reached")
        }
        Location::Sqlite(path) if path.is_relative() => {
            let present = format!("{} is in the working directory, which cannot be read", path.display());
            let remedy = "DATABASE_URL to an absolute path, or STATE_DIRECTORY to a directory";
            Check::new(NAME, present, "a directory that may be written").fails([remedy.to_owned()])
        }
        Location::Sqlite(path) => of_file(source, path),
    }
}

fn of_file(source: &Source<'_>, path: &Path) -> Check {
    let need = format!("a directory that may be written, and {} MiB", BYTES_WANTED >> 20);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let (place, shown) = (source.place(directory), directory.display());
    if !place.is_dir() {
        let check = Check::new(NAME, format!("{shown} is no directory"), need);
        return check.fails([format!("mkdir -p {shown}, or DATABASE_URL to another path")]);
    }
    let file = source.place(path);
    let directory_refused = access(&place, Access::WRITE_OK | Access::EXEC_OK).err();
    let file_refused = if file.exists() { access(&file, Access::READ_OK | Access::WRITE_OK).err() } else { None };
    for (what, refused) in [(path, file_refused), (directory, directory_refused)] {
        if let Some(error) = refused {
            let check = Check::new(NAME, format!("{} cannot be written ({error})", what.display()), need);
            return check.fails([format!(
                "write permission for this user on {}, or DATABASE_URL to another path",
                what.display()
            )]);
        }
    }
    match statvfs(&place) {
        Err(error) => Check::unknown(NAME, &Unknown::new(format!("not known: the room in {shown} ({error})")), need),
        Ok(room) => {
            let bytes = room.f_bavail.saturating_mul(room.f_frsize);
            let present = format!("{} MiB are free in {shown}", bytes >> 20);
            let check = Check::new(NAME, present, need).numbers(Some(bytes), Some(BYTES_WANTED));
            let remedy = || [format!("make room in {shown}, or DATABASE_URL to a path on another disk")];
            match bytes {
                0 => check.fails(remedy()),
                bytes if bytes < BYTES_WANTED => check.warns(remedy()),
                _ => check,
            }
        }
    }
}
