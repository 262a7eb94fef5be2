//! The SQL of the table `users`, on whatever connection the caller has.

use rusqlite::{Connection, OptionalExtension, Result, Row};
use serde::Serialize;

/// A user as stored and as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Given by the store, ascending, never used twice.
    pub id: i64,
    /// Unique, compared byte by byte.
    pub name: String,
    /// May be absent.
    pub email: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A user to be stored; the caller has checked the fields.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// See [`User::name`].
    pub name: String,
    /// See [`User::email`].
    pub email: Option<String>,
    /// See [`User::created_at`].
    pub created_at: String,
}

pub(super) fn insert(connection: &Connection, user: &NewUser) -> Result<User> {
    let mut statement = connection.prepare_cached("INSERT INTO users (name, email, created_at) VALUES (?1, ?2, ?3)")?;
    let id = statement.insert((&user.name, &user.email, &user.created_at))?;
    Ok(User { id, name: user.name.clone(), email: user.email.clone(), created_at: user.created_at.clone() })
}

pub(super) fn find(connection: &Connection, id: i64) -> Result<Option<User>> {
    let mut statement = connection.prepare_cached("SELECT id, name, email, created_at FROM users WHERE id = ?1")?;
    statement.query_row([id], user_of).optional()
}

pub(super) fn page(connection: &Connection, after: i64, limit: u32) -> Result<Vec<User>> {
    let mut statement = connection
        .prepare_cached("SELECT id, name, email, created_at FROM users WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    statement.query_map((after, limit), user_of)?.collect()
}

/// Touches the table's first page and nothing more.
pub(super) fn probe(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM users)")?;
    statement.query_row([], |_| Ok(()))
}

fn user_of(row: &Row<'_>) -> Result<User> {
    Ok(User { id: row.get(0)?, name: row.get(1)?, email: row.get(2)?, created_at: row.get(3)? })
}
