//! What an error of a statement means: for the caller, and for the session that it came from.
//!
//! One table. What is not in it costs the session: after a failover, an administrator's `DROP`, a proxy that forgot what was
//! prepared, only a new session knows what is there now. Invariant: no error is ever a success.

use tokio_postgres::Error;

use crate::store::StoreError;

/// The constraint that a taken name breaks, as the schema calls it.
pub(super) const NAME_CONSTRAINT: &str = "users_name_key";

/// What is done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The answer.
    pub(super) error: StoreError,
    /// The session is none the worse for it.
    pub(super) session_stays: bool,
}

impl Verdict {
    pub(super) fn of(error: &Error) -> Self {
        match error.as_db_error() {
            Some(error) => Self::of_state(error.code().code(), error.constraint()),
            // The connection broke, or the answer was not what it must be.
            None => Self { error: StoreError::Unavailable, session_stays: false },
        }
    }

    /// The codes are those of PostgreSQL's documentation, appendix A.
    fn of_state(sqlstate: &str, constraint: Option<&str>) -> Self {
        let (error, session_stays) = match sqlstate {
            // unique_violation
            "23505" if constraint == Some(NAME_CONSTRAINT) => (StoreError::NameTaken, true),
            // Of an id, if somebody set the sequence back: the data are to blame.
            "23505" => (StoreError::Unavailable, true),
            // query_canceled: the statement took too long, or somebody cancelled it.
            "57014" => (StoreError::Unavailable, true),
            // lock_not_available, serialization_failure, deadlock_detected: another change was in the way.
            "55P03" | "40001" | "40P01" => (StoreError::Unavailable, true),
            // disk_full, out_of_memory, too_many_connections: the server is short of something, and reads may go on.
            "53100" | "53200" | "53300" => (StoreError::Unavailable, true),
            // Among them: read_only_sql_transaction (25006) of a server that became a standby, admin_shutdown (57P01),
            // feature_not_supported (0A000) of a plan whose table has changed, invalid_sql_statement_name (26000).
            _ => (StoreError::Unavailable, false),
        };
        Self { error, session_stays }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_taken_name_is_the_callers_affair() {
        let taken = Verdict { error: StoreError::NameTaken, session_stays: true };
        assert_eq!(Verdict::of_state("23505", Some(NAME_CONSTRAINT)), taken);
        for constraint in [None, Some("users_pkey"), Some("idempotency_keys_pkey")] {
            assert_eq!(Verdict::of_state("23505", constraint).error, StoreError::Unavailable);
        }
    }

    #[test]
    fn row_102_what_passes_keeps_the_session_and_what_does_not_costs_it() {
        for passing in ["57014", "55P03", "40001", "40P01", "53100", "53200", "53300", "23505"] {
            let expected = Verdict { error: StoreError::Unavailable, session_stays: true };
            assert_eq!(Verdict::of_state(passing, None), expected, "{passing}");
        }
        for fatal in ["25006", "57P01", "57P02", "57P03", "0A000", "26000", "42P01", "42501", "08006", "58030", "XX000"]
        {
            let expected = Verdict { error: StoreError::Unavailable, session_stays: false };
            assert_eq!(Verdict::of_state(fatal, None), expected, "{fatal}");
        }
    }
}
