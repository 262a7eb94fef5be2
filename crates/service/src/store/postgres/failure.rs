//! What went wrong with a connection, in words: one line, without a password, fit for a log.

use std::error::Error as _;

use tokio_postgres::Error;

use super::tls;

/// What is said of a pooler that gives each transaction another session (see `pooler`).
pub(super) const POOLED: &str = "a pooler in transaction mode keeps no prepared statements and no settings of a session: set its pool_mode to \
    session, or set DATABASE_URL to the server itself";

/// What went wrong, in one line.
pub(super) fn reason(error: &Error) -> String {
    let text = match error.as_db_error() {
        Some(answer) => {
            let cause = if has_forgotten(error) { format!(": {POOLED}") } else { String::new() };
            format!("{}, SQLSTATE {}{cause}", answer.message(), answer.code().code())
        }
        None => {
            let mut text = error.to_string();
            let mut cause = error.source();
            if let Some(words) = tls::in_words(error) {
                (text, cause) = (format!("{text}: {words}"), None);
            }
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    };
    // What ends without a word of TLS is explained on a page on the web.
    let text = text.split(": https://").next().unwrap_or_default();
    // It may be a server's text, and goes into a log.
    text.replace(char::is_control, " ")
}

pub(super) fn no_answer() -> String {
    "there was no answer in time".to_owned()
}

/// Whether a server answers as if a session had been exchanged: invalid_sql_statement_name, duplicate_prepared_statement.
pub(super) fn has_forgotten(error: &Error) -> bool {
    error.code().is_some_and(|state| matches!(state.code(), "26000" | "42P05"))
}
