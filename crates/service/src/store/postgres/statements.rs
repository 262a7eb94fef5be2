//! The SQL of the store, prepared once for each session.
//!
//! Each change is one statement and so one transaction: it is there as a whole or not at all, and several can be on their way on
//! one connection. Times go in and out as text. Invariant: what a statement answers stays true when others run at the same time;
//! how, is said at each. All of it rests on the level "read committed": a statement sees what was committed before it began, and
//! an UPDATE or DELETE that had to wait for another change of its row looks at the new row and checks its WHERE again.

use tokio_postgres::{Client, Error, Row, Statement};

use super::identity::Receipt;
use crate::store::User;

/// A time as it is shown.
const CREATED_AT: &str = r#"to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#;

/// Where a change was made, as a [`Receipt`] has it: the table, and the transaction.
const RECEIPT: &str = "tableoid, txid_current_if_assigned()";

/// The same of one that was made before, and is shown again.
const SEEN: &str = "to_regclass('baiwan.users')::oid, NULL::bigint";

/// The prepared statements of one session.
#[derive(Debug)]
pub(super) struct Statements {
    /// Id; the user.
    pub(super) find: Statement,
    /// Id, number; users.
    pub(super) page: Statement,
    /// Whether the server takes writes, and the number of the table; it fails where that cannot be read.
    pub(super) probe: Statement,
    /// Name, e-mail, time; the user and a receipt, or nothing if the name is taken.
    pub(super) create: Statement,
    /// Name, e-mail, time, key, fingerprint, expiry of keys; a [`Creation`], or nothing if another with the key was faster.
    pub(super) create_once: Statement,
    /// Key, fingerprint, expiry of keys; a [`Creation`], or nothing.
    pub(super) look_up: Statement,
    /// Id, name, e-mail, versions wanted and unwanted; the user and a receipt, or nothing if there is none of such a version.
    pub(super) replace: Statement,
    /// Id, versions wanted and unwanted; the user and a receipt, or nothing if there is none of such a version.
    pub(super) delete: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let user = format!("id, name, email, {CREATED_AT}, version");
        let find = format!("SELECT {user} FROM baiwan.users WHERE id = $1::bigint");
        let page = format!("SELECT {user} FROM baiwan.users WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint");
        let probe = "SELECT current_setting('transaction_read_only') = 'off', to_regclass('baiwan.users')::oid,
            EXISTS (SELECT FROM baiwan.users)";
        Ok(Self {
            find: client.prepare(&find).await?,
            page: client.prepare(&page).await?,
            probe: client.prepare(probe).await?,
            create: client.prepare(&create(&user)).await?,
            create_once: client.prepare(&create_once()).await?,
            look_up: client.prepare(&look_up()).await?,
            replace: client.prepare(&replace(&user)).await?,
            delete: client.prepare(&delete(&user)).await?,
        })
    }
}

/// A taken name is no error of the server's, which would write each into its log. `ON CONFLICT` waits for another creation of
/// the name that is under way, and goes on if that fails.
fn create(user: &str) -> String {
    format!(
        "INSERT INTO baiwan.users (name, email, created_at) VALUES ($1::text, $2::text, $3::text::timestamptz)
         ON CONFLICT (name) DO NOTHING RETURNING {user}, {RECEIPT}"
    )
}

/// All parts of it see what was committed before it began, and not what the others do; one hands its rows to the next.
///
/// Of several with one key, all but one find the key in `seen`, or they wait in `claimed` until the first has ended: if it was
/// undone they take its place; if not, `ON CONFLICT` meets its row, which has not expired, and leaves nothing for `stored`. Then
/// the whole answers no row, and the caller looks the key up. A taken name is an error in `stored`, and undoes `claimed` too.
///
/// Each waits for a key first, then for a name, and takes rows of `expired` last and without waiting. A change that has one waits for
/// nothing more, so that no circle of waiting can form.
fn create_once() -> String {
    format!(
        "WITH seen AS (
             SELECT fingerprint, user_id, created_at FROM baiwan.idempotency_keys
             WHERE key = $4::text AND created_at >= $6::text::timestamptz
         ), claimed AS (
             INSERT INTO baiwan.idempotency_keys AS remembered (key, fingerprint, user_id, created_at)
             SELECT $4::text, $5::bytea, nextval('baiwan.users_id_seq'), $3::text::timestamptz
             WHERE NOT EXISTS (SELECT FROM seen)
             ON CONFLICT (key) DO UPDATE SET
                 fingerprint = excluded.fingerprint, user_id = excluded.user_id, created_at = excluded.created_at
             WHERE remembered.created_at < $6::text::timestamptz
             RETURNING remembered.user_id
         ), stored AS (
             INSERT INTO baiwan.users (id, name, email, created_at)
             SELECT user_id, $1::text, $2::text, $3::text::timestamptz FROM claimed
             RETURNING id, created_at, tableoid
         ), expired AS (
             SELECT stale.key FROM baiwan.idempotency_keys AS stale CROSS JOIN stored
             WHERE stale.created_at < $6::text::timestamptz AND stale.key <> $4::text
             ORDER BY stale.created_at LIMIT 2
             FOR UPDATE OF stale SKIP LOCKED
         ), forgotten AS (
             DELETE FROM baiwan.idempotency_keys AS stale USING expired WHERE stale.key = expired.key
         )
         SELECT true, true, id, {CREATED_AT}, tableoid, txid_current_if_assigned() FROM stored
         UNION ALL
         SELECT false, fingerprint = $5::bytea, user_id, {CREATED_AT}, {SEEN} FROM seen"
    )
}

fn look_up() -> String {
    format!(
        "SELECT false, fingerprint = $2::bytea, user_id, {CREATED_AT}, {SEEN} FROM baiwan.idempotency_keys
         WHERE key = $1::text AND created_at >= $3::text::timestamptz"
    )
}

/// Of two that demand version 1, the second waits for the first, finds version 2 and does nothing. NULL for the wanted versions
/// means any.
fn replace(user: &str) -> String {
    format!(
        "UPDATE baiwan.users SET name = $2::text, email = $3::text, version = version + 1
         WHERE id = $1::bigint AND ($4::bigint[] IS NULL OR version = ANY ($4::bigint[])) AND version <> ALL ($5::bigint[])
         RETURNING {user}, {RECEIPT}"
    )
}

/// As with [`replace`]: a statement that waited for a change checks the version that it left.
fn delete(user: &str) -> String {
    format!(
        "DELETE FROM baiwan.users
         WHERE id = $1::bigint AND ($2::bigint[] IS NULL OR version = ANY ($2::bigint[])) AND version <> ALL ($3::bigint[])
         RETURNING {user}, {RECEIPT}"
    )
}

/// What is remembered of a creation with a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Creation {
    /// It was now.
    pub(super) is_new: bool,
    /// It was of the same fields.
    pub(super) is_same: bool,
    /// The user's id.
    pub(super) id: i64,
    /// See [`User::created_at`].
    pub(super) created_at: String,
    /// Where.
    pub(super) receipt: Receipt,
}

impl Creation {
    pub(super) fn read(row: &Row) -> Result<Self, Error> {
        let [is_new, is_same] = [row.try_get(0)?, row.try_get(1)?];
        Ok(Self { is_new, is_same, id: row.try_get(2)?, created_at: row.try_get(3)?, receipt: receipt_of(row, 4)? })
    }
}

pub(super) fn user_of(row: &Row) -> Result<User, Error> {
    Ok(User {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        email: row.try_get(2)?,
        created_at: row.try_get(3)?,
        version: row.try_get(4)?,
    })
}

/// A user who was changed.
pub(super) fn changed_of(row: &Row) -> Result<(User, Receipt), Error> {
    Ok((user_of(row)?, receipt_of(row, 5)?))
}

fn receipt_of(row: &Row, column: usize) -> Result<Receipt, Error> {
    Ok(Receipt { table: row.try_get(column)?, transaction: row.try_get(column + 1)? })
}

/// What the probe answers. A table that is not there has no number.
pub(super) fn probed_of(row: &Row) -> Result<(bool, Option<u32>), Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}
