//! How a run was called, for its report.

use std::ffi::OsString;

/// Fields whose values are nobody's business.
const SECRETS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// A command line as a shell would take it; values of fields that hold secrets are left out.
pub(super) fn shown(arguments: impl IntoIterator<Item = OsString>) -> String {
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let rest = arguments.map(|argument| quoted(&without_secret(argument)));
    std::iter::once(program).chain(rest).collect::<Vec<_>>().join(" ")
}

fn without_secret(argument: String) -> String {
    let Some((name, _)) = argument.split_once(':') else { return argument };
    let bare = name
        .strip_prefix("--header=")
        .or_else(|| name.strip_prefix("-H="))
        .or_else(|| name.strip_prefix("-H"))
        .unwrap_or(name);
    match SECRETS.contains(&bare.trim().to_ascii_lowercase().as_str()) {
        true => format!("{name}: …"),
        false => argument,
    }
}

fn quoted(argument: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,%+@".contains(letter);
    match !argument.is_empty() && argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_repeated_but_for_its_secrets() {
        for (arguments, text) in [
            (vec!["/usr/bin/baiwan", "load", "http://h/?a=b&c"], "baiwan load 'http://h/?a=b&c'"),
            (vec!["baiwan", "-d", "it's", ""], r"baiwan -d 'it'\''s' ''"),
            (
                vec!["baiwan", "-H", "Authorization: Bearer x", "-Hcookie:y"],
                "baiwan -H 'Authorization: …' '-Hcookie: …'",
            ),
            (vec!["baiwan", "-H=Cookie: y"], "baiwan '-H=Cookie: …'"),
            (
                vec!["baiwan", "--header=X-API-Key:z", "-H", "accept: a"],
                "baiwan '--header=X-API-Key: …' -H 'accept: a'",
            ),
        ] {
            assert_eq!(shown(arguments.into_iter().map(OsString::from)), text);
        }
    }
}
