//! A hundred users for a first look, put into an empty store before the service starts.
//!
//! It opens a store of its own and closes it, so that nothing of it is left in the one that serves. Invariant: where there is a
//! user already, nothing is written.

use std::time::Duration;

use super::{Change, Fields, Location, OpenError, Options, Store, StoreError};
use crate::clock;

/// Between looks at whether a connection is there, and how many.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 250;

/// Why the users could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It opened, but does not take them.
    #[error("the users for the demonstration cannot be stored: {0}")]
    Store(#[from] StoreError),
}

impl Store {
    /// Stores a hundred users at `location`, if it has none. Returns how many were stored.
    ///
    /// # Errors
    ///
    /// [`DemoError`]; those that were stored before it stay.
    pub async fn fill_for_demonstration(location: &Location) -> Result<usize, DemoError> {
        let store = Self::open(location, &Options { cores: 1, connections_max: 1, reads_on_threads: false }).await?;
        let core = store.for_core(0);
        core.open();
        for _ in 0..LOOKS_MAX {
            if core.check().await.is_ok() {
                break;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        if !core.users(0, 1).await?.is_empty() {
            return Ok(0);
        }
        let mut stored = 0;
        for name in NAMES {
            let email = format!("{}@example.org", name.to_lowercase().replace(' ', "."));
            let fields = Fields { name: name.to_owned(), email: Some(email) };
            match core.apply(Change::Create { fields, created_at: clock::now_rfc3339(), key: None }).await {
                Ok(_) => stored += 1,
                // Another process does the same.
                Err(StoreError::NameTaken) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(stored)
    }
}

/// People to whom we owe the field.
const NAMES: [&str; 100] = [
    "Ada Lovelace",
    "Charles Babbage",
    "Alan Turing",
    "Grace Hopper",
    "Donald Knuth",
    "Barbara Liskov",
    "Edsger Dijkstra",
    "Frances Allen",
    "John McCarthy",
    "Marvin Minsky",
    "Claude Shannon",
    "Konrad Zuse",
    "Hedy Lamarr",
    "Kathleen Booth",
    "Andrew Booth",
    "John von Neumann",
    "Margaret Hamilton",
    "Katherine Johnson",
    "Dorothy Vaughan",
    "Mary Jackson",
    "Annie Easley",
    "Jean Bartik",
    "Betty Holberton",
    "Kay McNulty",
    "Marlyn Wescoff",
    "Ruth Lichterman",
    "Frances Spence",
    "Adele Goldstine",
    "Adele Goldberg",
    "Alan Kay",
    "Ivan Sutherland",
    "Douglas Engelbart",
    "Vannevar Bush",
    "Ted Nelson",
    "Tim Berners-Lee",
    "Robert Cailliau",
    "Vint Cerf",
    "Bob Kahn",
    "Jon Postel",
    "Radia Perlman",
    "Van Jacobson",
    "Sally Floyd",
    "Paul Baran",
    "Donald Davies",
    "Leonard Kleinrock",
    "Lawrence Roberts",
    "Ray Tomlinson",
    "Elizabeth Feinler",
    "Steve Crocker",
    "Bob Metcalfe",
    "Dennis Ritchie",
    "Ken Thompson",
    "Brian Kernighan",
    "Douglas McIlroy",
    "Rob Pike",
    "Bjarne Stroustrup",
    "James Gosling",
    "Niklaus Wirth",
    "Tony Hoare",
    "Robin Milner",
    "Dana Scott",
    "Michael Rabin",
    "Stephen Cook",
    "Leslie Lamport",
    "Nancy Lynch",
    "Shafi Goldwasser",
    "Silvio Micali",
    "Whitfield Diffie",
    "Martin Hellman",
    "Ralph Merkle",
    "Ron Rivest",
    "Adi Shamir",
    "Leonard Adleman",
    "Clifford Cocks",
    "Joan Clarke",
    "Mavis Batey",
    "Tommy Flowers",
    "Bill Tutte",
    "Max Newman",
    "Maurice Wilkes",
    "David Wheeler",
    "Stanley Gill",
    "Christopher Strachey",
    "Peter Landin",
    "John Backus",
    "Peter Naur",
    "Jean Sammet",
    "Mary Shaw",
    "Karen Sparck Jones",
    "Lynn Conway",
    "Carver Mead",
    "Sophie Wilson",
    "Steve Furber",
    "Gordon Moore",
    "Robert Noyce",
    "Federico Faggin",
    "Jack Kilby",
    "Jim Gray",
    "Michael Stonebraker",
    "Edgar Codd",
];
