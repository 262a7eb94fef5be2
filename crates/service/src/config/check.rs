//! `baiwan check-config`: the settings in force and where each was set. It opens neither the database nor the network.
//! Invariant: it shows no secret.

use baiwan::settings::KUBERNETES;

use super::Config;
use super::settings::{self, on_one_line};
use super::sources::Values;

/// A table of all settings, one a line, for standard output. `config` was made of `values`.
pub(crate) fn table(config: &Config, values: &Values) -> String {
    // Where the database really is, not as it was written.
    let config = Config { database: config.place(), ..config.clone() };
    let mut rows = vec![["VARIABLE", "VALUE", "SOURCE"].map(ToOwned::to_owned)];
    for (row, value) in settings::values(&config) {
        let source = match config.kubernetes_defaults.contains(&row.name) {
            true => format!("default where {KUBERNETES} is set"),
            false => values.source(row),
        };
        rows.push([row.name.to_owned(), on_one_line(&value).into_owned(), source]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[name, value, source]| format!("{name:<first$}  {value:<second$}  {source}\n")).collect()
}
