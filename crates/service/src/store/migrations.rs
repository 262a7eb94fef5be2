//! The law for those who write migrations, and what it lets a program do with a database that is not of its own version.
//!
//! Two versions of this program share a database while one replaces the other, and the older one may come back. So a database says two
//! numbers: its `version`, which is how many steps it has had, and `compatible_from`, the least version that a program must know to use it.
//!
//! | the program knows versions up to `known` | it |
//! |---|---|
//! | `version` ≤ `known` | makes the steps that are missing, in one transaction with both numbers |
//! | `compatible_from` ≤ `known` < `version` | uses the database and leaves its schema as it is |
//! | `known` < `compatible_from` | refuses to start |
//!
//! The law: steps are only ever appended, and a step that was released is never changed. Within a minor version every step
//! [adds](Step::Adds): what programs without it read and write stays right. A step that [breaks](Step::Breaks) comes with a new minor version,
//! and only once the one before has stopped using what it takes away.

/// One step of a schema, in SQL.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A new table, an index that is not unique, or a column that may be left out. Programs that do not know it go on as before, also while
    /// it is made: it must not hold a lock for longer than a moment.
    Adds(&'static str),
    /// Programs that do not know it must not use the database any more.
    Breaks(&'static str),
}

impl Step {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Adds(sql) | Self::Breaks(sql) => sql,
        }
    }
}

/// The version that a program with these steps knows.
pub(super) fn version(steps: &[Step]) -> i32 {
    i32::try_from(steps.len()).expect("a handful of migrations")
}

/// The least version that programs must know to use a database that has had all of these steps.
pub(super) fn compatible_from(steps: &[Step]) -> i32 {
    version(&steps[..steps.iter().rposition(|step| matches!(step, Step::Breaks(_))).map_or(0, |last| last + 1)])
}

/// What a program that knows versions up to `known` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There are steps to be made.
    Behind,
    /// There are none.
    Current,
    /// A later program has made further ones, and this one can go on.
    Ahead,
    /// A later program has made one that this one cannot live with.
    TooNew,
}

impl Standing {
    /// That of a database with version `found`. `compatible_from` counts only where that is more than `known`.
    pub(super) fn of(found: i32, compatible_from: i32, known: i32) -> Self {
        match found {
            _ if found < known => Self::Behind,
            _ if found == known => Self::Current,
            _ if compatible_from <= known => Self::Ahead,
            _ => Self::TooNew,
        }
    }
}

/// What is wrong with the SQL of a step that is said to add, if anything is: the first statement that may do more.
#[cfg(test)]
pub(super) fn more_than_addition(sql: &str) -> Option<String> {
    let statements = sql.split(';').map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "));
    statements.filter(|statement| !statement.is_empty()).find(|statement| !only_adds(&statement.to_uppercase()))
}

/// Simple words decide, in favour of refusal.
#[cfg(test)]
fn only_adds(statement: &str) -> bool {
    if ["CREATE TABLE ", "CREATE INDEX ", "INSERT INTO "].iter().any(|start| statement.starts_with(start)) {
        return true;
    }
    let Some((_, column)) = statement.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once(" ADD COLUMN "))
    else {
        return false;
    };
    let may_be_left_out = !column.contains("NOT NULL") || column.contains(" DEFAULT ");
    let others = ["DROP", "RENAME", "ALTER", "UNIQUE", "CHECK", "REFERENCES", "PRIMARY", "CONSTRAINT"];
    may_be_left_out && !others.iter().any(|word| column.split([' ', ',', '(']).any(|found| found == *word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_migrated_used_as_it_is_or_refused() {
        for (found, compatible_from, known, expected) in [
            (0, 0, 3, Standing::Behind),
            (2, 2, 3, Standing::Behind),
            (3, 2, 3, Standing::Current),
            (4, 2, 3, Standing::Ahead),
            (5, 3, 3, Standing::Ahead),
            (5, 4, 3, Standing::TooNew),
        ] {
            assert_eq!(Standing::of(found, compatible_from, known), expected, "{found} {compatible_from} {known}");
        }
    }

    #[test]
    fn programs_must_know_the_last_step_that_breaks() {
        let (adds, breaks) = (Step::Adds(""), Step::Breaks(""));
        for (steps, expected) in
            [(&[][..], 0), (&[breaks], 1), (&[breaks, adds, adds], 1), (&[breaks, adds, breaks, adds], 3)]
        {
            assert_eq!(compatible_from(steps), expected, "{steps:?}");
        }
    }

    #[test]
    fn what_takes_away_or_demands_more_does_not_pass_for_an_addition() {
        for sql in [
            "CREATE TABLE a (b INTEGER NOT NULL); CREATE INDEX c ON a (b);",
            "alter table a\n add column b integer not null default 1;",
            "ALTER TABLE a ADD COLUMN dropped TEXT",
        ] {
            assert_eq!(more_than_addition(sql), None, "{sql}");
        }
        for sql in [
            "CREATE TABLE a (b INTEGER);\n DROP TABLE users",
            "ALTER TABLE users DROP COLUMN email",
            "ALTER TABLE users RENAME TO people",
            "ALTER TABLE users ALTER COLUMN name TYPE bytea",
            "ALTER TABLE users ADD COLUMN a INTEGER NOT NULL",
            "ALTER TABLE users ADD COLUMN a INTEGER, DROP COLUMN email",
            "ALTER TABLE users ADD COLUMN a INTEGER UNIQUE",
            "ALTER TABLE users ADD CONSTRAINT a CHECK (name <> '')",
            "CREATE UNIQUE INDEX a ON users (email)",
            "CREATE TRIGGER a",
            "UPDATE users SET email = NULL",
            "DELETE FROM users",
        ] {
            assert!(more_than_addition(sql).is_some(), "{sql}");
        }
    }
}
