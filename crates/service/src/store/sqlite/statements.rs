//! The SQL of the tables `users` and `idempotency_keys`, on whatever connection the caller has.
//!
//! A change runs within the caller's transaction, beside others. One that is refused has changed no user and kept no key: each
//! changes the table of users with one statement, which SQLite undoes when it breaks a constraint, and nothing that can be refused
//! comes after it.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Result, Row};

use crate::store::{Change, Condition, Fields, IdempotencyKey, StoreError, User};

/// Why a change was not made: the caller's reason, or the file's.
pub(super) enum Failure {
    Refused(StoreError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // The name is the only constraint that checked fields can break.
            Some(ErrorCode::ConstraintViolation) => Self::Refused(StoreError::NameTaken),
            _ => Self::Sqlite(error),
        }
    }
}

/// Makes a change and returns the user: as stored, or as it was before it was deleted.
pub(super) fn apply(connection: &Connection, change: &Change) -> Result<User, Failure> {
    match change {
        Change::Create { fields, created_at, key: None } => Ok(insert(connection, fields, created_at)?),
        Change::Create { fields, created_at, key: Some(key) } => create_once(connection, fields, created_at, key),
        Change::Replace { id, fields, condition } => replace(connection, *id, fields, condition),
        Change::Delete { id, condition } => delete(connection, *id, condition),
    }
}

fn insert(connection: &Connection, fields: &Fields, created_at: &str) -> Result<User> {
    let mut statement = connection.prepare_cached("INSERT INTO users (name, email, created_at) VALUES (?1, ?2, ?3)")?;
    let id = statement.insert((&fields.name, &fields.email, created_at))?;
    Ok(created(id, fields, created_at.to_owned()))
}

fn created(id: i64, fields: &Fields, created_at: String) -> User {
    User { id, name: fields.name.clone(), email: fields.email.clone(), created_at, version: 1 }
}

fn create_once(
    connection: &Connection,
    fields: &Fields,
    created_at: &str,
    key: &IdempotencyKey,
) -> Result<User, Failure> {
    forget_expired(connection, key, &IdempotencyKey::expiry())?;
    let fingerprint = fields.fingerprint();
    let mut seen =
        connection.prepare_cached("SELECT fingerprint, user_id, created_at FROM idempotency_keys WHERE key = ?1")?;
    let remembered = |row: &Row<'_>| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?, row.get(2)?));
    let first = seen.query_row([key.as_str()], remembered).optional()?;
    match first {
        // Equal fingerprints mean equal fields, so the first answer can be made of these.
        Some((first, id, created_at)) if first == fingerprint => return Ok(created(id, fields, created_at)),
        Some(_) => return Err(Failure::Refused(StoreError::KeyReused)),
        None => {}
    }
    let user = insert(connection, fields, created_at)?;
    connection
        .prepare_cached("INSERT INTO idempotency_keys (key, fingerprint, user_id, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((key.as_str(), fingerprint, user.id, created_at))?;
    Ok(user)
}

/// Two for each one that comes: what was remembered in a busy hour is forgotten bit by bit, and no write takes long.
fn forget_expired(connection: &Connection, key: &IdempotencyKey, expiry: &str) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM idempotency_keys WHERE key = ?1 AND created_at < ?2")?
        .execute((key.as_str(), expiry))?;
    connection
        .prepare_cached(
            "DELETE FROM idempotency_keys WHERE key IN
             (SELECT key FROM idempotency_keys WHERE created_at < ?1 ORDER BY created_at LIMIT 2)",
        )?
        .execute([expiry])?;
    Ok(())
}

fn replace(connection: &Connection, id: i64, fields: &Fields, condition: &Condition) -> Result<User, Failure> {
    let found = find_if(connection, id, condition)?;
    let version = found.version + 1;
    connection.prepare_cached("UPDATE users SET name = ?2, email = ?3, version = ?4 WHERE id = ?1")?.execute((
        id,
        &fields.name,
        &fields.email,
        version,
    ))?;
    Ok(User { name: fields.name.clone(), email: fields.email.clone(), version, ..found })
}

fn delete(connection: &Connection, id: i64, condition: &Condition) -> Result<User, Failure> {
    let found = find_if(connection, id, condition)?;
    connection.prepare_cached("DELETE FROM users WHERE id = ?1")?.execute([id])?;
    Ok(found)
}

/// What is found stays as it is until the transaction ends: SQLite has one writer.
fn find_if(connection: &Connection, id: i64, condition: &Condition) -> Result<User, Failure> {
    let user = find(connection, id)?.ok_or(Failure::Refused(StoreError::NoSuchUser))?;
    if condition.holds(user.version) { Ok(user) } else { Err(Failure::Refused(StoreError::ConditionFailed)) }
}

pub(super) fn find(connection: &Connection, id: i64) -> Result<Option<User>> {
    let mut statement =
        connection.prepare_cached("SELECT id, name, email, created_at, version FROM users WHERE id = ?1")?;
    statement.query_row([id], user_of).optional()
}

pub(super) fn page(connection: &Connection, after: i64, limit: u32) -> Result<Vec<User>> {
    let mut statement = connection
        .prepare_cached("SELECT id, name, email, created_at, version FROM users WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    statement.query_map((after, limit), user_of)?.collect()
}

/// Touches the table's first page and nothing more.
pub(super) fn probe(connection: &Connection) -> Result<()> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM users)")?;
    statement.query_row([], |_| Ok(()))
}

fn user_of(row: &Row<'_>) -> Result<User> {
    Ok(User { id: row.get(0)?, name: row.get(1)?, email: row.get(2)?, created_at: row.get(3)?, version: row.get(4)? })
}

#[cfg(test)]
mod tests {
    use crate::store::sqlite::schema;

    #[test]
    fn a_page_is_found_by_its_first_id_and_not_counted_to() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::open(&directory.path().join("a.db")).unwrap();
        let plan = |sql: &str| -> String {
            connection.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get(3)).unwrap()
        };
        let page = plan("SELECT id, name, email, created_at, version FROM users WHERE id > 7 ORDER BY id LIMIT 20");
        assert_eq!(page, "SEARCH users USING INTEGER PRIMARY KEY (rowid>?)");
        let expired = plan("SELECT key FROM idempotency_keys WHERE created_at < '2026' ORDER BY created_at LIMIT 2");
        assert!(expired.starts_with("SEARCH idempotency_keys USING COVERING INDEX"), "{expired}");
    }
}
