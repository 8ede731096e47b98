//! Writes what packages hold besides programs and units: manual pages and shell completions, from the very
//! commands that the programs parse.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, Parser};
use clap_complete::Shell;

/// Writes manual pages and completions of all three programs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder to write to: `man` and one folder a shell come to be in it.
    out: PathBuf,
}

fn main() -> Result<()> {
    let out = Arguments::parse().out;
    for command in [
        virtflow_cli::command(),
        virtflow_agent::arguments::Arguments::command(),
        virtflow_controller::commands::Arguments::command(),
    ] {
        let pages = manual(command.clone(), &out.join("man"))?;
        completions(command.clone(), &out)?;
        println!("{}: {pages} manual pages", command.get_name());
    }
    Ok(())
}

/// A page for the command and one for each of its own commands; how many. Deeper ones would be hundreds of pages
/// that say what the page above them and `--help` say.
fn manual(command: Command, folder: &Path) -> Result<usize> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let mut pages = 1;
    write_page(command.clone(), &name, folder)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let page = format!("{name}-{}", sub.get_name());
        // The page's title, and what stands in its synopsis.
        let sub = sub.clone().name(page.clone());
        write_page(sub, &page, folder)?;
        pages += 1;
    }
    Ok(pages)
}

fn write_page(command: Command, name: &str, folder: &Path) -> Result<()> {
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .manual("VirtFlow")
        .render(&mut page)
        .with_context(|| format!("making the manual page {name}"))?;
    fs::write(&path, page).with_context(|| format!("writing {}", path.display()))
}

fn completions(mut command: Command, out: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let folder = out.join(shell.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut text);
        // As the folders of each shell want them named.
        let file: OsString = match shell {
            Shell::Zsh => format!("_{name}").into(),
            Shell::Fish => format!("{name}.fish").into(),
            _ => name.clone().into(),
        };
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
