//! Writes the man pages and the completions of shells for `baiwan`, from the definitions that its command line is parsed with.
//!
//! ```text
//! cargo run --package baiwan-service --example manual -- DIRECTORY
//! ```
//!
//! An example and not a hidden command, so that what only packages need is no part of the product: it would have added two crates to it. The
//! pages are `man1/*.1`; the completions `completions/baiwan` (bash), `_baiwan` (zsh) and `baiwan.fish`.

#![allow(clippy::print_stdout, reason = "an example")]

use std::fs;
use std::path::Path;

use anyhow::Context;
use baiwan_service::cli;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// In the footer of all pages.
const MANUAL: &str = "Baiwan";

fn main() -> anyhow::Result<()> {
    let directory = std::env::args_os().nth(1).context("which directory? manual DIRECTORY")?;
    let directory = Path::new(&directory);
    let (pages, completions) = (directory.join("man1"), directory.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let mut completed = without_hidden(&cli::command());
    for (shell, name) in [(Shell::Bash, "baiwan"), (Shell::Zsh, "_baiwan"), (Shell::Fish, "baiwan.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut completed, "baiwan", &mut script);
        fs::write(completions.join(name), script)?;
    }
    let mut command = without_hidden(&cli::command()).disable_help_subcommand(true);
    command.build();
    write_page(&command, &pages)?;
    command.get_subcommands().try_for_each(|subcommand| write_page(subcommand, &pages))?;
    println!("{}", directory.display());
    Ok(())
}

/// The command with those of its subcommands that are for everybody: shells would complete hidden ones, too. It has no arguments of its own.
fn without_hidden(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).cloned();
    Command::new("baiwan")
        .version(env!("CARGO_PKG_VERSION"))
        .about(command.get_about().cloned().unwrap_or_default())
        .after_help(command.get_after_help().cloned().unwrap_or_default())
        .subcommands(shown)
}

fn write_page(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let man = Man::new(command.clone()).manual(MANUAL).source(format!("baiwan {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        page.extend(notes(&text.to_string()).bytes());
    }
    fs::write(directory.join(man.get_filename()), page)?;
    Ok(())
}

/// What follows the options in the help, as a section: each line is a paragraph, and one that is indented stays as it is. (`clap_mangen`
/// makes one paragraph of all.)
fn notes(text: &str) -> String {
    let mut section = ".SH NOTES\n".to_owned();
    for line in text.lines() {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        section += &match line.starts_with(' ') {
            true => format!(".nf\n\\&{escaped}\n.fi\n"),
            false => format!(".PP\n\\&{escaped}\n"),
        };
    }
    section
}
