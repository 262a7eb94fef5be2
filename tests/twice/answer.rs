//! An answer as it came, and what of it is compared.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A body that is longer is written down as its length and a hash.
const SHOWN_MAX: usize = 400;

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `HTTP/1.1 200 OK`.
    pub(crate) line: String,
    /// In the order in which they came.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The fields behind a chunked body.
    pub(crate) trailers: Vec<String>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.line[9..12].parse().unwrap()
    }

    /// The first field of that name, given in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Fails unless the status is this one: a script says what it is about.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{self:?}");
        self
    }

    /// Fails unless the body is this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert_eq!(self.text(), text, "{self:?}");
        self
    }

    /// Whether the server says that it closes the connection.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Status and body, for differences.
    pub(crate) fn in_short(&self) -> String {
        format!("{} {:?}", self.status(), String::from_utf8_lossy(&self.body))
    }

    /// All but the fields of that name.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut answer = self.clone();
        answer.fields.retain(|(known, _)| known != name);
        answer
    }

    /// What is compared: everything but the date, and the order of fields of different names, which has no meaning
    /// (RFC 9110,
    /// section 5.3).
    pub(crate) fn normalised(&self) -> String {
        let mut fields = self.fields.clone();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut text = self.line.clone();
        for (name, value) in &fields {
            let value = if name == "date" { "(now)" } else { value };
            text += &format!("\n    {name}: {value}");
        }
        if self.body.len() <= SHOWN_MAX {
            text += &format!("\n    {:?}", String::from_utf8_lossy(&self.body));
        } else {
            text += &format!("\n    {} bytes, {:016x}", self.body.len(), hash(&self.body));
        }
        for trailer in &self.trailers {
            text += &format!("\n    trailer {trailer}");
        }
        text
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
