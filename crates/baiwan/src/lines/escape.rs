//! Text of clients, fit for a line.

/// Appends `text` as a JSON string with its quotes. What is appended is printable ASCII, whatever `text` is: see [`push_escaped`].
///
/// # Example
/// ```
/// let mut line = Vec::new();
/// baiwan::lines::push_json(&mut line, b"a\n\"b\" \xff");
/// assert_eq!(line, br#""a\n\"b\" \ufffd""#);
/// ```
pub fn push_json(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string (RFC 8259, section 7): quotes, backslashes, and everything that is not printable ASCII are
/// escaped, so that neither a terminal nor a reader of lines takes any of it for more than text: control characters and escape sequences,
/// U+2028, marks that turn the direction of writing. A byte that is not UTF-8 is U+FFFD.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
            let (plain, special) = rest.split_at(at);
            out.extend_from_slice(plain.as_bytes());
            let mut chars = special.chars();
            if let Some(special) = chars.next() {
                push_char(out, special);
            }
            rest = chars.as_str();
        }
        out.extend_from_slice(rest.as_bytes());
        if !chunk.invalid().is_empty() {
            push_char(out, char::REPLACEMENT_CHARACTER);
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn push_char(out: &mut Vec<u8>, special: char) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match special {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ => {
            for unit in special.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(*unit >> shift & 15)]));
            }
        }
    }
}

/// Appends `text` for people at a terminal: letters of all languages stay, what a terminal would obey or not show is escaped.
///
/// # Example
/// ```
/// let mut line = String::new();
/// baiwan::lines::push_readable(&mut line, "Zoë said \"no\"\u{1b}[2J\n");
/// assert_eq!(line, r#"Zoë said "no"\u{1b}[2J\n"#);
/// ```
pub fn push_readable(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '"' | '\'' | '\\' => out.push(char),
            _ => out.extend(char.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients have broken logs with, and what is written of it.
    const CASES: &[(&[u8], &str)] = &[
        (b"/users/1", "/users/1"),
        (b"", ""),
        (b"a\r\nb", r"a\r\nb"),
        (b"\"},{\"a\":\"", r#"\"},{\"a\":\""#),
        (b"\\", r"\\"),
        (b"\0", r"\u0000"),
        (b"\x1b[2J\x1b]0;title\x07", r"\u001b[2J\u001b]0;title\u0007"),
        (b"\x7f", r"\u007f"),
        ("\u{9b}31m".as_bytes(), r"\u009b31m"),
        ("\u{202e}gpj".as_bytes(), r"\u202egpj"),
        ("\u{2066}\u{200f}\u{61c}".as_bytes(), r"\u2066\u200f\u061c"),
        ("\u{2028}\u{2029}\u{85}".as_bytes(), r"\u2028\u2029\u0085"),
        ("\u{feff}\u{200b}".as_bytes(), r"\ufeff\u200b"),
        ("é\u{1f600}".as_bytes(), r"\u00e9\ud83d\ude00"),
        (b"a\xff\xfeb", r"a\ufffd\ufffdb"),
        (b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd"),
        (b"cut \xe2\x80", r"cut \ufffd"),
        (b"%0d%0a%ff%e2%80%ae", "%0d%0a%ff%e2%80%ae"),
    ];

    #[test]
    fn row_62_whatever_is_sent_is_one_line_of_printable_ascii_and_reads_as_what_it_was() {
        for (sent, expected) in CASES {
            let mut line = Vec::new();
            push_json(&mut line, sent);
            assert_eq!(String::from_utf8_lossy(&line), format!("\"{expected}\""), "{sent:?}");
            let read: String = serde_json::from_slice(&line).unwrap();
            assert_eq!(read, String::from_utf8_lossy(sent), "{sent:?}");
        }
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let mut line = Vec::new();
        push_json(&mut line, &all);
        assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
    }

    #[test]
    fn what_is_for_people_moves_no_cursor() {
        for char in
            ['\n', '\r', '\t', '\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{feff}']
        {
            let mut line = String::new();
            push_readable(&mut line, &format!("a{char}b"));
            assert!(line.is_ascii() && line.starts_with("a\\") && line.ends_with('b'), "{line:?}");
        }
    }
}
