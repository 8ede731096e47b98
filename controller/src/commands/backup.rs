//! `backup`: a folder with the state, the records and the sealed CA, made while the controller runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use virtflow_types::Timestamp;

use super::{ConfigFile, Output, print_json};
use crate::app::cluster_version_supported;
use crate::daemon::admin::{Request, ask};

/// What folders begin with that `--into` makes; the moment follows.
const PREFIX: &str = "backup-";

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    config: ConfigFile,
    /// A folder that does not exist yet. The seal key is not in it: keep that elsewhere. The controller
    /// itself writes there, as its own user.
    #[arg(long, value_name = "FOLDER", required_unless_present = "into")]
    out: Option<PathBuf>,
    /// Makes a folder in this one, named after the moment: backup-2026-11-23T06:00:00Z.
    #[arg(long, value_name = "FOLDER", conflicts_with = "out")]
    into: Option<PathBuf>,
    /// After the new one was verified, keeps so many of the newest backups there and removes the others.
    #[arg(long, value_name = "NUMBER", requires = "into", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn command(backup: Backup) -> anyhow::Result<ExitCode> {
    let config = backup.config.load()?;
    let path = match (&backup.out, &backup.into) {
        (Some(out), _) => out.clone(),
        (None, Some(into)) => into.join(format!("{PREFIX}{}", Timestamp::now())),
        (None, None) => anyhow::bail!("name a folder: --out FOLDER, or --into FOLDER"),
    };
    let path = std::path::absolute(&path)?;
    let request = Request::Backup { path: path.clone() };
    let manifest = ask(&config.folders().admin_socket(), &request).await?;
    virtflow_shadow::verify_backup(&path, cluster_version_supported()).await?;
    let removed = match (&backup.into, backup.keep) {
        (Some(into), Some(keep)) => remove_older(into, keep.into())?,
        _ => Vec::new(),
    };
    match backup.output {
        Output::Json => print_json(&manifest),
        Output::Text => {
            println!(
                "{}: a verified backup up to index {}; keep the seal key {} apart from it",
                path.display(),
                manifest["index"],
                config.seal_key_file.display()
            );
            for folder in removed {
                println!("{}: an older one, removed", folder.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes all but the `keep` newest backups of a folder; what has another name is not looked at.
fn remove_older(into: &Path, keep: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut backups = Vec::new();
    let listing = || format!("looking for older backups in {}", into.display());
    for entry in std::fs::read_dir(into).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let made_at = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<Timestamp>().ok());
        if let Some(made_at) = made_at
            && entry.file_type().with_context(listing)?.is_dir()
        {
            backups.push((made_at, entry.path()));
        }
    }
    backups.sort();
    backups.truncate(backups.len().saturating_sub(keep));
    for (_, folder) in &backups {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("removing the older backup {}", folder.display()))?;
    }
    Ok(backups.into_iter().map(|(_, folder)| folder).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_backups_stay_and_so_does_what_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::create_dir(folder.path().join(name)).unwrap();
        for day in ["21", "24", "22", "23"] {
            make(&format!("{PREFIX}2026-11-{day}T06:00:00Z"));
        }
        make("backup-of-mine");
        std::fs::write(folder.path().join("backup-2026-11-01T06:00:00Z"), "a file").unwrap();
        let removed = remove_older(folder.path(), 2).unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(
            removed,
            [
                path("backup-2026-11-21T06:00:00Z"),
                path("backup-2026-11-22T06:00:00Z")
            ]
        );
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "backup-2026-11-01T06:00:00Z",
                "backup-2026-11-23T06:00:00Z",
                "backup-2026-11-24T06:00:00Z",
                "backup-of-mine"
            ]
        );
        assert!(remove_older(folder.path(), 2).unwrap().is_empty());
    }
}
