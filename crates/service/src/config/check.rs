//! `baiwan check-config`: the settings in force, where each was set, and whether it can change in a running service. It opens neither the database nor the network.
//! Invariant: it shows no secret.

use baiwan::settings::KUBERNETES;

use super::Config;
use super::settings::{self, on_one_line};
use super::sources::Values;

/// A table of all settings, one a line, for standard output. `config` was made of `values`.
pub(crate) fn table(config: &Config, values: &Values) -> String {
    // Where the database really is, not as it was written.
    let config = Config { database: config.place(), ..config.clone() };
    let mut rows = vec![["VARIABLE", "VALUE", "SOURCE", "CHANGES BY"].map(ToOwned::to_owned)];
    for (row, value) in settings::values(&config) {
        let source = match config.kubernetes_defaults.contains(&row.name) {
            true => format!("default where {KUBERNETES} is set"),
            false => values.source(row),
        };
        let changes_by = if row.reloadable { "reload" } else { "restart" };
        rows.push([row.name.to_owned(), on_one_line(&value).into_owned(), source, changes_by.to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let [first, second, third] = [0, 1, 2].map(width);
    let line =
        |[name, value, source, by]: &[String; 4]| format!("{name:<first$}  {value:<second$}  {source:<third$}  {by}\n");
    rows.iter().map(line).collect()
}
