//! The Chinese README says what the English one says: the same sections, figures, links, words in code and programs.

use crate::tree::{quoted, read};

const ENGLISH: &str = "README.md";
const CHINESE: &str = "README.zh-CN.md";

/// A section with its text and its blocks of code.
struct Section {
    text: String,
    code: String,
}

/// The sections of a document: what stands before its second heading is the first.
fn sections(document: &str) -> Vec<Section> {
    let mut sections = vec![Section { text: String::new(), code: String::new() }];
    let mut in_code = false;
    for line in read(document).lines() {
        if line.starts_with("```") {
            in_code ^= true;
            sections.last_mut().unwrap().code.push_str(line);
            continue;
        }
        if line.starts_with("##") && !in_code {
            sections.push(Section { text: String::new(), code: String::new() });
        }
        let section = sections.last_mut().unwrap();
        let to = if in_code { &mut section.code } else { &mut section.text };
        // What the code does not do is translated.
        let line = if in_code { without_comment(line) } else { line };
        to.push_str(line);
        to.push('\n');
    }
    sections
}

fn without_comment(line: &str) -> &str {
    let begin = [" # ", " // "].iter().filter_map(|mark| line.find(mark)).min();
    line[..begin.unwrap_or(line.len())].trim_end()
}

/// The numbers of a text, as they are written: `1,000`, `1.25`.
fn figures(text: &str) -> Vec<String> {
    let mut figures = Vec::new();
    for word in text.split(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != ',') {
        let figure = word.trim_matches(['.', ',']);
        if !figure.is_empty() {
            figures.push(figure.to_owned());
        }
    }
    figures
}

/// What links of a text lead to, but for the way to the other language.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| ![ENGLISH, CHINESE].contains(target)).map(ToOwned::to_owned).collect()
}

fn rows(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with('|')).map(|row| figures(row).join(" ")).collect()
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort_unstable();
    words
}

#[test]
fn the_chinese_readme_says_what_the_english_one_says() {
    let (english, chinese) = (sections(ENGLISH), sections(CHINESE));
    assert_eq!(english.len(), chinese.len(), "both have the same sections");
    for (english, chinese) in english.iter().zip(&chinese) {
        let heading = english.text.lines().next().unwrap_or_default();
        assert_eq!(english.code, chinese.code, "the code under {heading}");
        assert_eq!(rows(&english.text), rows(&chinese.text), "the rows of tables under {heading}");
        // Sentences have another order.
        assert_eq!(sorted(figures(&english.text)), sorted(figures(&chinese.text)), "the figures under {heading}");
        assert_eq!(sorted(links(&english.text)), sorted(links(&chinese.text)), "the links under {heading}");
        let words = |text: &str| sorted(quoted(text).map(ToOwned::to_owned).collect());
        assert_eq!(words(&english.text), words(&chinese.text), "the words in code under {heading}");
    }
}

#[test]
fn each_readme_leads_to_the_other() {
    assert!(read(ENGLISH).contains(&format!("({CHINESE})")));
    assert!(read(CHINESE).contains(&format!("({ENGLISH})")));
}

#[test]
fn figures_are_found_however_they_are_surrounded() {
    assert_eq!(
        figures("1.25（1.08 至 1.38）, p99.9: 26,656 requests/s. 0, 0"),
        ["1.25", "1.08", "1.38", "99.9", "26,656", "0", "0"]
    );
    assert_eq!(without_comment("a --b     # why"), "a --b");
}
