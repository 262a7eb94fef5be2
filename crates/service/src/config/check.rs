//! `baiwan check-config`: the settings in force and where each was set. It opens neither the database nor the network.
//! Invariant: it shows no secret.

use std::ffi::OsStr;
use std::thread::available_parallelism;

use super::Config;
use super::settings::{HIDDEN, Kind, SETTINGS, Setting, on_one_line};
use super::sources::Values;

/// A table of all settings, one a line, for standard output. `config` was made of `values`; for `state_directory` see
/// [`Config::location`].
pub(crate) fn table(config: &Config, values: &Values, state_directory: Option<&OsStr>) -> String {
    let mut rows = vec![["VARIABLE", "VALUE", "SOURCE"].map(ToOwned::to_owned)];
    for setting in SETTINGS {
        let value = match setting.kind {
            // Where it really is, not as it was written.
            Kind::Url => config.location(state_directory).as_ref().unwrap_or(&config.database).to_string(),
            _ if setting.variable == "WORKERS" => {
                config.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)).to_string()
            }
            _ => shown(setting, values),
        };
        rows.push([setting.variable.to_owned(), on_one_line(&value).into_owned(), values.source(setting)]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[variable, value, source]| format!("{variable:<first$}  {value:<second$}  {source}\n")).collect()
}

fn shown(setting: &Setting, values: &Values) -> String {
    match &values.of(setting.variable).text {
        Some(Ok(_)) if setting.kind == Kind::Secret => HIDDEN.to_owned(),
        Some(Ok(text)) => text.clone(),
        Some(Err(_)) | None => setting.fallback.text().to_owned(),
    }
}
